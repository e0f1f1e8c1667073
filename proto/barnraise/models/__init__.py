"""Base models, tensors, adapters, merging and GGUF files."""
