"""Importers: one file for each source that is understood as its publisher ships it."""
