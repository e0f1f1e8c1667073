"""The command line of `peer`."""
