"""Statistics of a unit: which classes it prefers, how strongly, how sparsely it answers."""
