"""Processes and what they do to folders: the worker that takes jobs, the helper that answers, one's own program."""
