"""Capture: which layers a model has, and what is kept of their outputs as it runs."""
