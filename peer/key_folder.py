"""A volunteer's key in its folder: exported to a file, and imported from one."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from barnraise.core.errors import MachineError, UserError
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey, short
from barnraise.runtime.files import disk_errors, flush, load_identity, make_folder, owned_folder, write_atomic
from barnraise.runtime.machine_clocks import utc_now
from peer.data_dir import PEER_KEY
from peer.key_backup import MAX_BYTES, KeyFile, open_key, read_key_file, seal_key

EARLIER = "earlier"
"""The folder below, to which a replaced key is moved with its work."""


@dataclass(frozen=True)
class Place:
    """Whose key is meant: a run, and the folder of a volunteer in it."""

    run: str
    folder: Path
    option: str
    """What a command needs to name the folder: empty, or `--data-dir` and its value."""

    def command(self, verb: str, file: Path, more: str = "") -> str:
        """A command to type."""
        return f"peer key {verb} {self.run} {shlex.quote(str(file))}{self.option}{more}"


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    public: PublicKey
    earlier: Path | None
    """Where the key that was there before is now, with its work."""
    was_there: bool = False
    """Whether the key was there before, so that nothing was done."""


def check_exportable(place: Place, file: Path) -> Identity:
    """The key to export. Raises UserError where there is none or `file` exists, MachineError, StateError."""
    if not os.path.lexists(place.folder / PEER_KEY):
        raise UserError(
            f"there is no key for {place.run} in {place.folder}",
            fix="Name the run as you joined it, and give --data-dir where you gave it to `peer join`.",
        )
    if file.exists() or file.is_symlink():
        raise UserError(
            f"{file} exists, and an exported key overwrites nothing",
            fix=f"Choose another name: {place.command('export', _free_name(file))}",
        )
    return load_identity(place.folder / PEER_KEY)


def export_key(place: Place, identity: Identity, file: Path, passphrase: str) -> None:
    """Write the key to `file`, for this user alone. Raises UserError, DiskFull, MachineError."""
    write_atomic(file, seal_key(identity, place.run, passphrase), mode=0o600)


def check_importable(place: Place, file: Path) -> KeyFile:
    """The file to import. Raises UserError, MachineError, StateError, NewerVersion."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError(
            f"there is no file {file}", fix="Give the file that `peer key export` wrote, with its folder."
        ) from None
    except OSError as error:
        raise MachineError(
            f"{file} cannot be read: {error.strerror}",
            fix=f"Make it yours to read, as by chmod u+r {shlex.quote(str(file))}",
        ) from None
    found = read_key_file(data, str(file))
    if found.run != place.run:
        raise UserError(
            f"{file} has the key for {found.run}, not for {place.run}",
            fix=f"Import it there: peer key import {found.run} {shlex.quote(str(file))}",
        )
    return found


def import_key(place: Place, found: KeyFile, file: Path, passphrase: str, *, replace: bool) -> Imported:
    """Put the key of a file into the folder.

    replace: move another key that is there aside, with its work. Raises WrongPassphrase; UserError where
    there is another key; FolderInUse while a volunteer runs there; DiskFull, MachineError, StateError.
    """
    identity = open_key(found, passphrase, place.command("import", file, " --replace" if replace else ""))
    with owned_folder(place.folder, "volunteer"):
        key = place.folder / PEER_KEY
        earlier: Path | None = None
        if os.path.lexists(key):  # a link to a disk that is not mounted is another key
            present = load_identity(key, is_copy=True).public
            if present == identity.public:
                return Imported(identity.public, None, was_there=True)
            if not replace:
                raise UserError(
                    f"{place.folder} has another key already, {short(present)}; the file has"
                    f" {short(identity.public)}",
                    fix="To move that key and its work aside and take this one, type"
                    f" {place.command('import', file, ' --replace')}",
                )
            earlier = _set_aside(place.folder)
        write_atomic(key, identity.seed, mode=0o600)
        return Imported(identity.public, earlier)


def _set_aside(folder: Path) -> Path:
    """Move all that belongs to the key of a folder below it. Raises DiskFull, MachineError."""
    target = folder / EARLIER / f"{utc_now():%Y%m%dT%H%M%SZ}"
    # The key is last: after an interruption, the same command continues.
    names = sorted(os.listdir(folder), key=lambda name: name == PEER_KEY)
    with disk_errors(target):
        make_folder(target)
        for name in names:
            if name != EARLIER and not name.startswith("."):
                os.replace(folder / name, target / name)
        flush(target)
        flush(folder)
    return target


def _free_name(file: Path) -> Path:
    return next(
        name
        for number in range(2, 10_000)
        if not (name := file.with_name(f"{file.stem}-{number}{file.suffix}")).exists()
    )
