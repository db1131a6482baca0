"""The drawn sample catalogue of the demo."""
