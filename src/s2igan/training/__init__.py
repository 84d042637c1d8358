"""Training: one file a stage (`sen`, `rdg`), the loop that both share (`trainer`), and the run that joins them
(`train`)."""
