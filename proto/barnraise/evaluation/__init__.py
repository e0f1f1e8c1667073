"""Held-out loss of a checkpoint, found by a child program."""
