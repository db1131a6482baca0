"""Bytes in, pixels out."""
