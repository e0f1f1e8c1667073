"""Adapters: the parts of the contract that touch files, downloads and model libraries."""
