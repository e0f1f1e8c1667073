"""Turns a dataset into shards: rows to records, rendered to tokens, packed into samples; `build` does all."""
