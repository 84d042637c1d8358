"""Training: one file a stage (`sen`, `rdg`), the loop that both share (`loop`), and the run that joins them
(`train`)."""
