"""The held-out loss of a checkpoint, computed by a child program."""
