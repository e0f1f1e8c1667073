"""How many peers hivemind averaged with, as its own log tells: both rivals of the benchmarks look at it."""

from __future__ import annotations

import logging
import re


class Groups(logging.Handler):
    """Notes the sizes of the groups that averaged. what: a pattern, such as `gradients|parameters`."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._line = re.compile(rf"Averaged (?:{what}) with (\d+) peers")
        self.sizes: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        if found := self._line.search(record.getMessage()):
            self.sizes.append(int(found[1]))
