"""`scripts/bench uplink`: volunteers on 20 Mbit/s lines, next to hivemind.Optimizer on the same lines."""
