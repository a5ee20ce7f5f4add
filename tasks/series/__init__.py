"""Recordings of one model over its training: what changes, and whether it is well."""
