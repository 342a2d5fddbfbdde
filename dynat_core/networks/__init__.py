"""Networks: the registry, public layouts, and files from elsewhere, read without running anything in them."""
