"""Replaying a run to prove a checkpoint."""
