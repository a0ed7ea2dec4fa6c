"""Curate WebDataset shards of images and captions into training sets."""
