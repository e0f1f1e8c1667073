"""Turns a dataset into shards: `read` records, `render` them to tokens, `pack` samples, `build` all."""
