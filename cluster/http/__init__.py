"""Routes, what they take and give, errors and limits."""
