"""In which order: one file per flow, and the command line."""
