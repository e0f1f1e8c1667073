"""The `coordinator` command line: each command parses its options and calls the module that does it."""
