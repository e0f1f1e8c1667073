"""Evaluates checkpoints, publishes them in the archive, and exports other forms."""
