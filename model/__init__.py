"""Pixels in, descriptors out."""
