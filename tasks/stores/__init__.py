"""Stores: the places and files where results lie; written whole, checked, repaired."""
