"""`scripts/bench convergence`: loss and bytes of each way of training together."""
