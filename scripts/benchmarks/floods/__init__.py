"""Rounds and memory of a run under floods: `scripts/bench floods`."""
