"""The sizes of the groups in which hivemind averaged, read from its own log; both baselines use it."""

from __future__ import annotations

import logging
import re


class Groups(logging.Handler):
    """Collects the sizes of the groups that averaged `what`, a pattern such as `gradients|parameters`."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._line = re.compile(rf"Averaged (?:{what}) with (\d+) peers")
        self.sizes: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        if found := self._line.search(record.getMessage()):
            self.sizes.append(int(found[1]))
