"""The events that a download reports: types that `peer.messages` renders. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from barnraise.core.ids import RunId
from barnraise.core.reason import Reason
from peer.archive.events import BaseEvent


@dataclass(frozen=True)
class WholeModelTrained(Reason):
    """The run trains all parameters: its trained form is the merged model that was asked for."""


@dataclass(frozen=True)
class DownloadStarts(Reason):
    """The files of a checkpoint are checked and fetched."""

    run: RunId
    round: int
    averaged: bool
    """Whether it is a mean of states up to that round."""
    files: int
    size: int
    """Bytes."""


@dataclass(frozen=True)
class FormNotPublished(Reason):
    """The form is converted from the trained checkpoint, which is downloaded first."""

    form: Literal["merged", "gguf"]
    round: int
    averaged: bool
    """As of `DownloadStarts`."""
    checkpoint: Path
    """The folder of the trained checkpoint."""


@dataclass(frozen=True)
class ConversionStarts(Reason):
    """All files are here."""

    form: Literal["merged", "gguf"]


DownloadEvent = WholeModelTrained | DownloadStarts | FormNotPublished | ConversionStarts | BaseEvent
