"""The volunteer's and the downloader's program."""
