"""Embedding: maps of the images by their features, and how far they can be trusted."""
