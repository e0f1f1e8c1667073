"""File names in the coordinator's folder of a run."""

from __future__ import annotations

import re
from pathlib import Path

from platformdirs import user_data_path

from barnraise.core.ids import RUN_PATTERN

AUTHORITY_KEY = "authority.key"
"""The run's private key."""
CLOSER_KEY = "closer.key"
"""The private key of a follower."""
VOTES = "votes.json"
"""What this closer promised and voted. A backup never has it."""
DELEGATION = "delegation.json"
"""The closers that `coordinator delegate` asks for, until they are named."""
ORDERS = "orders"
"""Folder of what the maintainer ordered about keys and invitations, until the log says it."""
ROLLBACK = "rollback.json"
"""What `coordinator rollback` ordered, until the log has it."""
DECAY = "decay.json"
"""What `coordinator serve --decay` ordered, until the log has it."""
INVITE = "invite"
"""The invite of the last start, without an invitation."""
INVITATIONS = "invitations.json"
"""The invitations that were made here."""
PEERS = "peers.json"
"""What `coordinator peers` shows."""
SUCCESSOR = "successor.json"
"""The successor of the run key that `coordinator key successor` made, until the log names it."""
AUDITS = "audits"
"""Folder of what audits found: the ledger, the reports, the secret that draws samples."""
AUDIT_LEDGER, AUDIT_SECRET = f"{AUDITS}/ledger.json", f"{AUDITS}/secret"
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
EARLIER = "earlier-runs"
"""Runs that `coordinator serve --new-run` moved aside, and journals that a recovery replaced."""


def runs_folder() -> Path:
    """The folder of the runs that are served on this machine without --data-dir."""
    return user_data_path("barnraise") / "coordinator"


def run_folder(text: str) -> Path:
    """The folder of a run that a command line names: its path, or the name of a run of this machine."""
    named = runs_folder() / text
    is_name = re.fullmatch(RUN_PATTERN, text) and not (Path(text) / JOURNAL).exists()
    return named if is_name and (named / JOURNAL).exists() else Path(text)
