"""Ways for several machines to train one model: run with the real codec and fold, tuned and compared."""
