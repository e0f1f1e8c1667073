"""Reading the archive of a run, over HTTP or from a folder: signatures and hashes alone are believed."""
