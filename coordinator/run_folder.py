"""File names in the coordinator's folder of a run."""

from __future__ import annotations

AUTHORITY_KEY = "authority.key"
"""The run's private key."""
JOURNAL = "journal.sqlite"
"""Every event of the run."""
CLOCK = "clock"
"""The run's time when the last head was announced."""
BLOBS = "blobs"
"""Everything content-addressed: shards, contributions, closes, checkpoint files."""
ARCHIVE = "archive"
"""The public archive of the run."""
CHAT_TEMPLATE = "chat_template.jinja"
"""The template that the data was rendered with: every checkpoint contains it."""
HELD_OUT = "held-out"
"""Folder of the samples that no volunteer trains on. Its files are not served as blobs."""
