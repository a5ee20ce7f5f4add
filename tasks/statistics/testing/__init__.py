"""Permuted labels, families of tests, and what sparse units allow."""
