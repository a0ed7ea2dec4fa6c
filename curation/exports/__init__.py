"""Curated data in the layouts that other programs read, and theirs brought into ours."""
