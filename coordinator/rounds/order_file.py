"""The files by which commands of the maintainer order something of the coordinator that runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from barnraise.core.strict import Strict
from barnraise.runtime.damaged import DAMAGED, DamagedFiles

log = logging.getLogger("coordinator")

Order = TypeVar("Order", bound=Strict)


def read_order(folder: Path, path: Path, kind: type[Order], *, fault: str, again: str) -> Order | None:
    """The order in a file; None where nothing is ordered.

    A damaged file is set aside in the run's `folder`, and the run continues without it. fault, again: what
    the log then says about the file, and about what the maintainer can do. Raises DiskFull.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        aside = DamagedFiles(folder / DAMAGED).set_aside(path)
        log.error("%s %s: it is set aside as %s. %s", path, fault, aside, again)
        return None
