"""Models: where they come from, their weights, and their training."""
