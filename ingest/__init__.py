"""A catalogue in, a store out."""
