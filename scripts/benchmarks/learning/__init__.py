"""`scripts/bench learning`: what a real model learns from each volunteer, and what it forgets."""
