"""A catalogue as a stream of entries: a folder of photos, or a table."""
