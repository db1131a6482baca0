"""Features that need no network."""
