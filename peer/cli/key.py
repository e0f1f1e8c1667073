"""`peer key`: a volunteer's key, which is its identity in a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from barnraise.contract.invite import SCHEME, parse_invite
from barnraise.core.errors import MachineError, UserError
from barnraise.core.ids import RUN_PATTERN
from barnraise.runtime.console import plain_errors, say
from peer.data_dir import own_folder, own_key

data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder of your key. Default: as for `peer join`."
)
_run = click.argument("run")
_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_passphrase_file = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File whose first line is the passphrase. Default: it is asked for.",
)


class _ShowByDefault(click.Group):
    """`peer key RUN` is `peer key show RUN`."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["show", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_ShowByDefault)
def key() -> None:
    """Show, export and import your key, which is your identity in a run.

    RUN is the run's name, or its invite. `peer key RUN` is `peer key show RUN`.
    """


@key.command()
@_run
@data_dir_option
@plain_errors
def show(run: str, data_dir: Path | None) -> None:
    """Print your public key for RUN.

    Its maintainer names you by it. RUN is the run's name, also before the run exists, or its invite. Creates
    a key if there is none.
    """
    say(own_key(own_folder(data_dir, run_name(run))).public)


@key.command()
@_run
@_file
@_passphrase_file
@data_dir_option
@plain_errors
def export(run: str, file: Path, passphrase_file: Path | None, data_dir: Path | None) -> None:
    """Write your key for RUN to FILE, encrypted with a passphrase.

    Keep FILE as a backup, or take it to another machine. Nobody can open it without the passphrase, and
    nobody can give it back to you.
    """
    from peer.key_folder import check_exportable, export_key

    place = _place(run, data_dir)
    identity = check_exportable(place, file)
    export_key(place, identity, file, _passphrase(passphrase_file, confirm=True))
    say(f"the key {identity.public[:8]} is in {file}. On another machine:\n")
    say(f"    {place.command('import', Path(file.name))}")


@key.command(name="import")
@_run
@_file
@click.option("--replace", is_flag=True, help="Move another key that is there aside, with its work.")
@_passphrase_file
@data_dir_option
@plain_errors
def import_(run: str, file: Path, replace: bool, passphrase_file: Path | None, data_dir: Path | None) -> None:
    """Take the key for RUN from FILE, which `peer key export` wrote.

    Use a key on one machine at a time: the run refuses a second program with it, until the first has left or
    was silent for two minutes.
    """
    from peer.key_folder import check_importable, import_key

    place = _place(run, data_dir)
    found = check_importable(place, file)
    done = import_key(place, found, file, _passphrase(passphrase_file, confirm=False), replace=replace)
    if done.was_there:
        say(f"the key {done.public[:8]} is in {place.folder} already")
        return
    if done.earlier is not None:
        say(f"the key that was there, and its work, are in {done.earlier}")
    say(f"the key {done.public[:8]} is in {place.folder}. Use it on one machine at a time: the run refuses a")
    say("second program with it")


def run_name(text: str) -> str:
    """The run's name in an invite, or `text` itself. Raises InviteError, UserError."""
    if text.startswith(f"{SCHEME}://"):
        return parse_invite(text).run
    if not re.fullmatch(RUN_PATTERN, text):
        raise UserError(f"{text[:60]!r} is not a run's name", fix="Give the run's name, or its invite.")
    return text


def _place(run: str, data_dir: Path | None) -> Any:
    import shlex

    from peer.key_folder import Place

    name = run_name(run)
    option = f" --data-dir {shlex.quote(str(data_dir))}" if data_dir is not None else ""
    return Place(name, own_folder(data_dir, name), option)


def _passphrase(file: Path | None, *, confirm: bool) -> str:
    from peer.key_backup import check_passphrase

    if file is not None:
        text = _first_line(file)
    else:
        text = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    if confirm:
        check_passphrase(text)
    return text


def _first_line(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as lines:
            return lines.readline(4096).rstrip("\r\n")
    except FileNotFoundError:
        raise UserError(f"there is no file {file}", fix="Write the passphrase into its first line.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise MachineError(
            f"{file} cannot be read: {error}", fix="Give a text file in UTF-8 that you may read."
        ) from None
