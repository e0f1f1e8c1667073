"""state[r + 1] = fold(state[r], contributions[r]), bit-exact; and the log of closes that it follows."""
