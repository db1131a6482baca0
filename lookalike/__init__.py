"""lookalike: exact visual similarity search for marketplaces, on Ray."""

__version__ = "0.3.0"
