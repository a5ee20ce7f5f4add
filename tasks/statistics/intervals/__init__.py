"""Intervals around estimates."""
