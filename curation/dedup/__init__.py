"""Duplicates: exact, perceptual, semantic, and one answer over all of them."""
