"""From one recording to its tables: what is read, in which pieces, and what is written."""
