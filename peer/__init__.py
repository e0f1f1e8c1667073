"""The program of volunteers and of users of checkpoints."""
