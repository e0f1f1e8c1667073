"""What the parts cost, measured on this machine: the code behind `scripts/bench`."""
