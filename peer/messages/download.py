"""Messages about what `peer download` does."""

from __future__ import annotations

from barnraise.core.units import format_bytes
from peer.download.events import (
    ConversionStarts,
    DownloadEvent,
    DownloadStarts,
    FormNotPublished,
    WholeModelTrained,
)
from peer.messages.archive import archive_message


def download_message(event: DownloadEvent) -> str:
    match event:
        case WholeModelTrained():
            return "this run trains all parameters: the trained form is the whole model"
        case DownloadStarts(run, round, files, size):
            return f"round {round} of {run}: {files} files, {format_bytes(size)}"
        case FormNotPublished(form, round, checkpoint):
            return f"round {round} is not published as {form}: converting the checkpoint in {checkpoint}"
        case ConversionStarts(form):
            return f"converting to the {form} form"
        case _:
            return archive_message(event)
