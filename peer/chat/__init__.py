"""Chat with a checkpoint."""
