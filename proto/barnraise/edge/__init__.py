"""Adapters: the parts of the contract that touch files, downloads, the network and model libraries."""
