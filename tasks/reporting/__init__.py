"""Reporting: what people see of an atlas: page, summary, list, and SQL."""
