"""Sending what the archive holds elsewhere, so that a run's checkpoints outlive its coordinator."""
