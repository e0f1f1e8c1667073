"""Reading the archive of a run, over HTTP or from a folder: only signatures and hashes are trusted."""
