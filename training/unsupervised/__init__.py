"""A model from a backbone that is not trained: its statistics, thresholds and short code, fitted to a sample."""
