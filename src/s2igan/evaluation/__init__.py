"""Scores as pure functions of arrays, and the program that computes them for a run (``evaluate``)."""
