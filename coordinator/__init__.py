"""The maintainer's side: admission, closing rounds, following the log, checkpoints, the gateway."""
