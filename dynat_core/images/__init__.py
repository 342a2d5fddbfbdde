"""Data sets: those everybody has, and those somebody brought."""
