"""Checkpoints written, evaluated, published to the archive and exported."""
