"""Activarium: which classes each channel of a vision model prefers, and whether that is more than chance."""
