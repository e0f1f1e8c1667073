"""TLS of the coordinator's gRPC service, pinned by the key in the invite."""
