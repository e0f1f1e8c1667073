"""Downloading a checkpoint: which form, from which sources, converted to what."""
