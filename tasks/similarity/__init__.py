"""Similarity: how alike layers answer to the same images, and which of their units correspond."""
