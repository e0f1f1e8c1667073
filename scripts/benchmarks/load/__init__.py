"""`scripts/bench load`: what thousands of connected volunteers cost one coordinator."""
