"""Names in the coordinator's folder of a run."""

from __future__ import annotations

AUTHORITY_KEY = "authority.key"
"""The run's private key."""
JOURNAL = "journal.sqlite"
"""Every event of the run."""
BLOBS = "blobs"
"""Everything content-addressed: shards, contributions, closes, checkpoint files."""
ARCHIVE = "archive"
"""What anybody may read of the run."""
CHAT_TEMPLATE = "chat_template.jinja"
"""The template that the data was rendered with: every checkpoint carries it."""
HELD_OUT = "held-out"
"""Folder of the samples that nobody trains on; not among the blobs that are served."""
