"""`scripts/bench attacks`: what is left of a run's gain while some of its contributors attack it."""
