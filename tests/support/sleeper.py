"""`peer` that is honest until a file named `turn` is in its data folder, and then sends much harm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from peer.cli.main import main as peer_main
from peer.training.trainer import Trainer, Update

FACTOR = -60.0
"""Of the honest update: so much that honest volunteers cannot mend it within the rounds of a verdict."""
TURN = "turn"
"""The file."""


def main() -> None:
    honest = Trainer.take_update
    turn = Path(sys.argv[sys.argv.index("--data-dir") + 1]) / TURN

    def harmful(self: Trainer, *args: Any) -> Update:
        update = honest(self, *args)
        if turn.exists():
            for array in update.tensors.values():
                array *= FACTOR
        return update

    setattr(Trainer, "take_update", harmful)  # noqa: B010
    peer_main()
