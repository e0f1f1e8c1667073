"""`peer` that sends the opposite of what it trained."""

from __future__ import annotations

from typing import Any

from peer.cli.main import main as peer_main
from peer.training.trainer import Trainer, Update


def main() -> None:
    honest = Trainer.take_update

    def flipped(self: Trainer, *args: Any) -> Update:
        update = honest(self, *args)
        for array in update.tensors.values():
            array *= -1
        return update

    setattr(Trainer, "take_update", flipped)  # noqa: B010
    peer_main()
