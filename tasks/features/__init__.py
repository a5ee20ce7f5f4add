"""Features: which numbers stand for an image, read from a recording in blocks of rows."""
