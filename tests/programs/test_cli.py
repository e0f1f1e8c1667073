"""Both command lines: each error is a problem, a fix and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from barnraise import __version__
from barnraise.contract.spec_file import read_spec
from coordinator.cli.main import main as coordinator
from peer.cli.main import main as peer
from tests.support import parts
from tests.support.coordinators import unused_port
from tests.support.programs import restored_logging


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    with restored_logging():
        yield


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(program: click.Command, *arguments: str) -> Result:
    return CliRunner().invoke(program, arguments)


def refused(program: click.Command, *arguments: str, status: int, words: str) -> list[str]:
    """The problem and the fix that a command ended with."""
    result = run(program, *arguments)
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    problem, fix = result.stderr[result.stderr.index("error: ") :].strip().split("\n  → ")
    assert words in problem
    assert fix.strip()
    assert result.stdout == ""
    return [problem, fix]


def unused_address() -> str:
    return f"127.0.0.1:{unused_port()}"


def invite(address: str, key: str = parts.AUTHORITY.public) -> str:
    return f"barnraise://{address}/barn?key={key}"


# coordinator new


def test_new_writes_a_valid_spec() -> None:
    result = run(coordinator, "new", "barn")
    assert result.exit_code == 0
    assert "run.toml" in result.stdout
    spec = read_spec(Path("run.toml"))
    assert spec.name == "barn"


def test_new_writes_to_the_given_file() -> None:
    assert run(coordinator, "new", "shed-2", "--output", "runs/shed.toml").exit_code == 0
    assert read_spec(Path("runs/shed.toml")).name == "shed-2"


def test_new_overwrites_no_file() -> None:
    Path("run.toml").write_text("mine", encoding="utf-8")
    refused(coordinator, "new", "barn", status=2, words="run.toml exists already")
    assert Path("run.toml").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["Barn", "-barn", "a b", "a/b", "", "ä", "a" * 41, 'a"'])
def test_new_refuses_an_invalid_name(name: str) -> None:
    refused(coordinator, "new", "--", name, status=2, words="cannot be a run's name")
    assert not Path("run.toml").exists()


def test_new_reports_when_it_cannot_write() -> None:
    Path("file").write_text("", encoding="utf-8")
    refused(coordinator, "new", "barn", "-o", "file/run.toml", status=3, words="cannot write")


# Specs


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = [", "not valid TOML"),
        ('name = "barn"', "`data` is missing"),
        ('nam = "barn"', "unknown key `nam` (did you mean `name`?)"),
        ('name = "Barn"\n[data]\nsource = "x"', "`name`"),
        ('name = "barn"\n[data]\nsource = "x"\n[round]\nsecond = 3', "did you mean `seconds`?"),
        ('name = "barn"\n[data]\nsource = "x"\n[round]\nseconds = -3', "greater than 0"),
        ('name = "barn"\n[data]\nsource = "x"\n[codec]\nkind = "dense"\nbits = 3', "bits"),
        (
            'name = "barn"\n[data]\nsource = "x"\n[outer]\nkind = "adamw"',
            "belongs to train.method `gradient`",
        ),
    ],
)
def test_an_invalid_spec_is_reported(command: str, text: str, words: str) -> None:
    Path("run.toml").write_text(text, encoding="utf-8")
    problem, _ = refused(coordinator, command, "run.toml", status=2, words=words)
    assert "run.toml" in problem


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_missing_spec_is_reported(command: str) -> None:
    _, fix = refused(coordinator, command, "run.toml", status=2, words="cannot read run.toml")
    assert "coordinator new" in fix


def test_a_binary_spec_is_reported() -> None:
    Path("run.toml").write_bytes(b"\xff\xfe\x00")
    refused(coordinator, "check", "run.toml", status=2, words="run.toml, line 1: not UTF-8")


def test_a_missing_model_is_reported() -> None:
    Path("data.jsonl").write_text('{"text": "barn"}\n', encoding="utf-8")
    text = 'name = "barn"\n[model]\nsource = "/no/such/model"\n[data]\nsource = "data.jsonl"'
    Path("run.toml").write_text(text, encoding="utf-8")
    refused(coordinator, "check", "run.toml", "--cache-dir", "cache", status=2, words="/no/such/model")


# Invites and addresses


@pytest.mark.parametrize("command", ["join", "download"])
@pytest.mark.parametrize(
    "text",
    [
        "barn",
        "",
        "barnraise://",
        "barnraise://host/barn?key=" + "ab" * 32,
        "barnraise://host:1/barn",
        "barnraise://host:1/barn?key=abc",
        "barnraise://host:99999/barn?key=" + "ab" * 32,
        "barnraise://host:1/?key=" + "ab" * 32,
    ],
)
def test_an_invalid_invite_is_refused(command: str, text: str) -> None:
    refused(peer, command, text, status=2, words="this is n")
    assert list(Path().iterdir()) == []


def test_download_reports_an_unreachable_coordinator() -> None:
    address = unused_address()
    refused(peer, "download", invite(address), status=4, words=f"no coordinator answers at {address}")
    assert list(Path().iterdir()) == []


def test_download_reports_an_unreachable_address() -> None:
    source = f"http://{unused_address()}/barn?key={parts.AUTHORITY.public}"
    refused(peer, "download", source, status=4, words="cannot be read")


@pytest.mark.parametrize("form", ["{}", f"barnraise://{{}}/barn?key={'ab' * 32}"])
def test_status_reports_a_coordinator_that_does_not_answer(form: str) -> None:
    address = unused_address()
    refused(coordinator, "status", form.format(address), status=4, words=f"answers at {address}")


def test_join_refuses_a_folder_in_use() -> None:
    from barnraise.runtime.files import owned_folder

    with owned_folder(Path("data"), "peer"):
        refused(
            peer, "join", invite(unused_address()), "--data-dir", "data", status=2, words="is running in data"
        )


def uses_rich(module: object) -> bool:
    """Whether a module, of rich or of ours, has something of rich."""
    return any(str(getattr(value, "__module__", "")).startswith("rich.") for value in vars(module).values())


@pytest.mark.parametrize("command", ["join", "download", "verify", "chat", "evaluate"])
def test_a_command_says_what_it_does_before_slow_imports(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = [name for name in sys.modules if name.partition(".")[0] in ("barnraise", "peer", "rich")]
    for name in [name for name in ours if uses_rich(sys.modules[name])]:
        monkeypatch.delitem(sys.modules, name)  # imported again, as by a program that starts
    monkeypatch.setitem(sys.modules, "rich.console", None)  # the first of them
    address = unused_address()
    result = run(peer, command, invite(address))
    assert isinstance(result.exception, ImportError)
    assert address in result.stderr
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize(
    ("program", "command"),
    [
        (coordinator, ("check", "run.toml", "--uplink")),
        (coordinator, ("check", "run.toml", "--rehearsal-memory")),
        (coordinator, ("serve", "run.toml", "--rehearsal-memory")),
        (peer, ("chat", "adapter", "--temperature")),
    ],
)
def test_a_number_that_is_not_finite_is_refused(
    program: click.Group, command: tuple[str, ...], number: str
) -> None:
    result = run(program, *command, number)
    assert result.exit_code == 2
    assert "not a finite number" in result.stderr


# Both programs


@pytest.mark.parametrize("program", [coordinator, peer])
def test_help_and_version(program: click.Group) -> None:
    assert __version__ in run(program, "--version").stdout
    for command in program.commands:
        result = run(program, command, "--help")
        assert result.exit_code == 0
        assert "Usage" in result.stdout


def test_each_argument_of_peer_is_explained() -> None:
    for command in peer.commands.values():
        for argument in (each for each in command.params if isinstance(each, click.Argument)):
            assert argument.make_metavar(click.Context(command)) in (command.help or ""), command.name


def test_each_argument_of_coordinator_is_explained() -> None:
    for command in coordinator.commands.values():
        for argument in (each for each in command.params if isinstance(each, click.Argument)):
            for form in argument.make_metavar(click.Context(command)).strip("[]").split("|"):
                assert form in (command.help or ""), command.name


@pytest.mark.parametrize(("program", "command"), [(coordinator, "sevre"), (peer, "jion"), (peer, "--wrong")])
def test_an_unknown_command_is_a_user_error(program: click.Command, command: str) -> None:
    result = run(program, command)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_debug_shows_a_traceback() -> None:
    result = run(coordinator, "--debug", "new", "No Name")
    assert "Traceback" in result.output
    assert "SpecError" in result.output
    assert result.exit_code == 2
