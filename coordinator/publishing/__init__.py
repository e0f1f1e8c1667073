"""Publishes the archive elsewhere, so that a run's checkpoints outlive its coordinator."""
