"""`coordinator publish`: sends the archive to the Hub, to a folder, or to an object store."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import INDEX, REPO_PATTERN, Repo
from barnraise.contract.manifest import Form
from barnraise.core.errors import UserError
from barnraise.core.ids import RUN_PATTERN
from barnraise.core.units import format_bytes
from coordinator.publishing.destination import Destination
from coordinator.publishing.local_archive import ArchiveChanged, LocalArchive
from coordinator.publishing.mirror import Mirror
from coordinator.publishing.selection import select
from coordinator.run_folder import ARCHIVE
from coordinator.timing import TIMING, Timing

HUB = "hf://"


@dataclass(frozen=True)
class PublishOptions:
    """What to publish, and where to."""

    to: str
    """hf://OWNER/NAME, the path of a folder, or an address that fsspec supports."""
    forms: Collection[Form]
    """Empty: all for a mirror; on the Hub those that are wanted there."""
    revision: str | None
    """None: all."""
    prune: bool
    """Remove from a mirror what the archive no longer names."""
    dry: bool
    """Send nothing: only say what would be sent."""


def publish(
    folder: Path, options: PublishOptions, say: Callable[[str], None], timing: Timing = TIMING
) -> None:
    """Send what is new in the archive of `folder`.

    Raises UserError, RefusedError, Unreachable, MachineError, TrustError for damaged files, StateError.
    """
    name = _hub_name(options)
    destination = Destination.of(options.to) if name is None else None
    for attempt in range(1, timing.publish_attempts + 1):
        archive = LocalArchive.of(folder)
        repos = select(archive.index, options.forms, options.revision)
        try:
            if destination is not None:
                _mirror(archive, repos, destination, options, say)
            elif name is not None:
                _hub(archive, repos, name, options, say)
            return
        except ArchiveChanged:
            if attempt == timing.publish_attempts:
                raise


def find_archive(text: str, coordinators: Path) -> Path:
    """The archive of a path or of a run's name.

    coordinators: the folder with the runs of this machine. Raises UserError.
    """
    named = [coordinators / text] if re.fullmatch(RUN_PATTERN, text) else []
    for folder in (Path(text), *named):
        for archive in (folder / ARCHIVE, folder):
            if (archive / INDEX).is_file():
                return archive
    raise UserError(
        f"there is no archive in {text!r}" + (f", nor in {named[0]}" if named else ""),
        fix="Give the name of a run that was served on this machine, the folder that `coordinator serve`"
        " named, or a copy of an archive.",
    )


def _mirror(
    archive: LocalArchive,
    repos: tuple[Repo, ...],
    destination: Destination,
    options: PublishOptions,
    say: Callable[[str], None],
) -> None:
    mirror = Mirror(archive, destination, options.dry, say)
    mirror.send(repos, prune=options.prune)
    if options.dry:
        say(f"nothing was sent: {mirror.sent_files} files, {format_bytes(mirror.sent_bytes)} would be")
        return
    say(f"{mirror.sent_files} files sent, {format_bytes(mirror.sent_bytes)}; the others were there already")
    say(f"Behind any web server it is a mirror: peer download 'https://…?key={archive.charter.authority}'")


def _hub(
    archive: LocalArchive,
    repos: tuple[Repo, ...],
    name: str,
    options: PublishOptions,
    say: Callable[[str], None],
) -> None:
    from huggingface_hub import HfApi, get_token

    from coordinator.publishing.hub import HubPublisher, check_login, dry_run

    if not options.forms:
        repos = tuple(repo for repo in repos if _wanted_on_the_hub(repo))
    if options.dry:
        dry_run(archive, repos, name, say)
        say("nothing was sent, and the Hub was not contacted")
        return
    check_login(get_token())
    HubPublisher(archive, HfApi(), say).send(repos, name)


def _wanted_on_the_hub(repo: Repo) -> bool:
    """Data only on request; a base model from the Hub is there already."""
    return repo.form != "data" and (repo.form != "base" or repo.id.endswith("-base"))


def _hub_name(options: PublishOptions) -> str | None:
    """OWNER/NAME, or None where the destination is not the Hub."""
    if not options.to.startswith(HUB):
        return None
    name = options.to.removeprefix(HUB).strip("/")
    if not re.fullmatch(REPO_PATTERN, name):
        raise UserError(
            f"{options.to!r} names no repository of the Hub",
            fix="Give hf://OWNER/NAME, with your user or organization name there as OWNER.",
        )
    if options.prune:
        raise UserError("--prune is for mirrors", fix="Remove old rounds on the Hub itself, or leave it out.")
    return name
