"""state[r + 1] = fold(state[r], contributions[r]): bit-exact, with the log that it follows."""
