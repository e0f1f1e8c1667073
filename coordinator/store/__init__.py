"""What the coordinator remembers of a run: journal, log, state, checkpoints."""
