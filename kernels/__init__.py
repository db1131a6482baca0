"""Bits in, distances out: exact Hamming search over packed codes."""
