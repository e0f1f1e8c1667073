"""Where a coordinator listens, and which addresses it announces."""
