"""How closers agree on the next entry of the log: Paxos, one decision for each place in the log."""
