"""What `peer join` takes from its command line: settings and displays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from barnraise.core.strict import Strict
from peer.archive.events import BaseEvent
from peer.auditing.events import AuditEvent
from peer.download.progress import DownloadDisplay
from peer.training.device import DeviceReason
from peer.training.memory_fit import Fit, FrozenPrecision
from peer.volunteer.display import StatusDisplay
from peer.volunteer.node import NetworkSettings
from peer.volunteer.reasons import LeaveReason

Render = Callable[[DeviceReason | Fit], str]
"""`peer.messages.training.training_message`."""


@dataclass(frozen=True)
class JoinDisplays:
    """What a volunteer shows."""

    status: StatusDisplay
    download: DownloadDisplay[BaseEvent]
    """For the download of the base model, before the status is shown."""
    render: Render
    """For the choices that the machine determines."""
    audit: Callable[[AuditEvent], None]
    """For what the auditor does, where there is one."""
    parting: Callable[[LeaveReason], str]
    """For what to do next, at the end."""


class JoinSettings(Strict):
    """A volunteer's own settings, which are not part of the run spec."""

    name: str
    """The volunteer's name, for the run's maintainer; empty: none."""
    credit: bool
    """Whether the run's status and the model cards of checkpoints may name the volunteer."""
    device: str
    """auto, cpu, mps, cuda or cuda:N."""
    threads: int | None
    """CPU threads for training; None: torch's own choice."""
    micro_batch: int | None
    """Samples that go through the model at once; None: chosen by the device and its memory."""
    frozen: FrozenPrecision = "auto"
    """How the frozen weights below an adapter are kept; auto: as exactly as memory allows."""
    listen: tuple[str, ...]
    """Multiaddresses that the libp2p daemon listens on."""
    max_upload: int | None
    """Limit for sending blobs, bytes a second; None: no limit."""
    max_download: int | None
    """Limit for receiving blobs, bytes a second; None: no limit."""
    audit: bool = False
    """Whether to audit contributions for the coordinator, too."""
    base: Path | None
    """The base model's folder or GGUF file; None: it is downloaded."""

    @property
    def network(self) -> NetworkSettings:
        """How this machine takes part in the swarm."""
        return NetworkSettings(listen=self.listen, max_upload=self.max_upload, max_download=self.max_download)

    @property
    def public_name(self) -> str:
        """The name in heartbeats, which everybody can read."""
        return self.name if self.credit else ""
