"""Messages about what `peer download` does."""

from __future__ import annotations

from barnraise.core.units import format_bytes, format_weights
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
        case DownloadStarts(run, round, averaged, files, size):
            return f"{format_weights(round, averaged)} of {run}: {files} files, {format_bytes(size)}"
        case FormNotPublished(form, round, averaged, checkpoint):
            what = format_weights(round, averaged)
            return f"{what} is not published as {form}: converting the checkpoint in {checkpoint}"
        case ConversionStarts(form):
            return f"converting to the {form} form"
        case _:
            return archive_message(event)
