"""Faults on real programs, and what has to hold after each of them."""
