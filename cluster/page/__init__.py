"""The search page and its files."""
