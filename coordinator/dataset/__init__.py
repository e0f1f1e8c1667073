"""A dataset becomes shards: `read` records, `render` them to tokens, `pack` samples, `build` it all."""
