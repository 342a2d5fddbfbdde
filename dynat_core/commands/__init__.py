"""The commands of `python -m dynat_core`: each a function that does it, and one that says its options."""
