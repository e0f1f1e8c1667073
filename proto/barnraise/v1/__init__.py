"""Generated gRPC stubs of `barnraise.v1`; `scripts/stubs` makes them from the .proto files."""
