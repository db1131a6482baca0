"""Photos in, a model out."""
