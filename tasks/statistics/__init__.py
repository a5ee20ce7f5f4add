"""Statistics: which classes each unit prefers, how strongly, and is it more than chance."""
