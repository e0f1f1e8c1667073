"""The run spec: defaults, digest, and the errors for mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.contract.spec import AdamW, DataSpec, Dense, Full, Lora, Raw, RunSpec, Sgd, SourceSpec
from barnraise.contract.spec_file import parse_spec, read_spec
from barnraise.core.errors import SpecError

SMALLEST = 'name = "barn"\n[data]\nsource = "x"\n'
FULL = (
    SMALLEST
    + """
[train]
method = "gradient"
batch = 8
[train.target]
kind = "full"
[train.inner]
lr = 3
[round]
seconds = 60
steps = 100
target_tokens = 10_000
[outer]
kind = "adamw"
lr = 0.5
[codec]
kind = "raw"
[checkpoint]
every = 2
"""
)


def test_the_smallest_spec_has_the_defaults() -> None:
    assert parse_spec(SMALLEST) == RunSpec(name="barn", data=DataSpec(source="x"))


def test_every_setting_can_be_set() -> None:
    spec = parse_spec(FULL)
    assert (spec.train.target, spec.codec, spec.outer) == (Full(), Raw(), AdamW(lr=0.5))
    assert (spec.train.inner.lr, spec.round.seconds, spec.round.target_tokens) == (3.0, 60.0, 10_000)


def test_a_spec_round_trips_as_json() -> None:
    spec = parse_spec(FULL)
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("added", "problem"),
    [
        ("lisense = 1", "unknown key `data.lisense` (did you mean `licence`?)"),
        ("zzz = 1", "unknown key `data.zzz` (known keys: bad_rows"),
        ("[trian]\nbatch = 1", "unknown key `trian` (did you mean `train`?)"),
        ('[train.target]\nkind = "lora"\nrnk = 3', "(did you mean `rank`?)"),
        ('[train.target]\nkind = "full"\nrank = 3', "unknown key `train.target.rank`"),
        ("[train.inner]\nleaning = 3", "unknown key `train.inner.leaning`"),
        ('[outer]\nkind = "sgd"\nmomentun = 0.9', "(did you mean `momentum`?)"),
        ('[outer]\nkind = "sgd"\nbeta1 = 0.9', "unknown key `outer.beta1`"),
        ('[codec]\nkind = "dense"\nbit = 4', "(did you mean `bits`?)"),
        ('[codec]\nkind = "raw"\nbits = 4', "unknown key `codec.bits`"),
        ('[codec]\nkind = "zip"', "'zip'"),
        ("[round]\nsecnds = 3", "unknown key `round.secnds` (did you mean `seconds`?)"),
    ],
)
def test_an_unknown_key_suggests_a_similar_one(added: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(SMALLEST + added)
    assert problem in caught.value.problem
    assert "\n" not in caught.value.problem
    assert caught.value.fix


def test_suggestions_are_of_the_chosen_kind() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(SMALLEST + '[outer]\nkind = "sgd"\nzzz = 1')
    assert "momentum" in caught.value.problem
    assert "beta1" not in caught.value.problem


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "`name` is missing; `data` is missing"),
        (SMALLEST.replace("barn", "The Barn"), "`name`"),
        (SMALLEST.replace("barn", "b" * 41), "`name`"),
        (SMALLEST.replace('"x"', "3"), "`data.source`"),
        (SMALLEST + "held_out = 0.6", "`data.held_out`"),
        (SMALLEST + "sequence_length = 4", "`data.sequence_length`"),
        (SMALLEST + "[round]\nseconds = 0", "`round.seconds`"),
        (SMALLEST + '[round]\nseconds = "5"', "`round.seconds`"),
        (
            SMALLEST + "[round]\nseconds = 1e26",
            "`round.seconds`: should be less than or equal to 2592000",
        ),
        (SMALLEST + f"[round]\nsteps = {10**26}", "`round.steps`: should be at most 1e+15"),
        (SMALLEST + "[outer]\nkind = 'sgd'\nlr = 1e300", "`outer.lr`: should be at most 1e+15"),
        (SMALLEST + "[round]\nmin_contributions = 0", "`round.min_contributions`"),
        (SMALLEST + "[train.inner]\nlr = nan", "`train.inner.lr`"),
        (SMALLEST + "[train.inner]\nlr = inf", "`train.inner.lr`"),
        (SMALLEST + "[train.inner]\nbeta1 = 1.0", "`train.inner.beta1`"),
        (SMALLEST + '[codec]\nkind = "dense"\nbits = 3', "`codec.bits`"),
        (SMALLEST + '[codec]\nkind = "dense"\nblock = 12', "`codec.block`"),
        (SMALLEST + '[outer]\nkind = "sgd"\nnesterov = true', "nesterov needs a momentum"),
        (SMALLEST + '[outer]\nkind = "adamw"', "belongs to train.method `gradient`"),
        ('name = "x"\ndata = 2020-01-01', "`data`"),
        ("seed = -1\n" + SMALLEST, "`seed`"),
        ("seed = 1.0\n" + SMALLEST, "`seed`: should be a whole number (found 1.0)"),
        (
            SMALLEST + '[train]\nmethod = "dilocco"',
            "`train.method`: should be 'diloco' or 'gradient' (found 'dilocco';",
        ),
        (SMALLEST + '[train]\nmethod = "dilocco"', "; did you mean 'diloco'?)"),
        (
            SMALLEST + '[codec]\nkind = "dens"',
            "`codec.kind`: should be 'dense', 'raw', 'sparse' (found 'dens';",
        ),
        (SMALLEST + "[codec]\nbits = 4", "`codec.kind` is missing"),
        ('name = "x"\n[[data]]\nsource = "x"', "`data`: should be a table, which begins with [data]"),
        (SMALLEST + '[train.target]\nkind = "lora"\nmodules = 3', "`train.target.modules`: should be a list"),
        (SMALLEST + '[checkpoint]\nevaluators = ["abc"]', "`checkpoint.evaluators #1`"),
    ],
)
def test_an_invalid_value_is_reported_by_its_key(text: str, where: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "my.toml")
    assert caught.value.problem.startswith("my.toml: ")
    assert where in caught.value.problem


@pytest.mark.parametrize("text", ["name = ", 'name = "x', "a = 1\na = 2", "[a\n", "\0"])
def test_invalid_toml_is_reported_with_its_position(text: str) -> None:
    with pytest.raises(SpecError, match=r"is not valid TOML: .*\(at .*\)") as caught:
        parse_spec(text)
    assert caught.value.exit_code == 2


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec('nmae = "x"\n[data]\nsource = 1\n')
    assert all(part in caught.value.problem for part in ("`name` is missing", "`nmae`", "`data.source`"))


@pytest.mark.parametrize(
    "write",
    [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff\xfe")],
    ids=["missing", "a folder", "not text"],
)
def test_a_file_that_cannot_be_read_is_a_spec_error(tmp_path: Path, write: object) -> None:
    assert callable(write)
    write(tmp_path / "run.toml")
    with pytest.raises(SpecError, match=r"cannot read|, line 1: not UTF-8"):
        read_spec(tmp_path / "run.toml")


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(b"\xef\xbb\xbf" + SMALLEST.encode())
    assert read_spec(tmp_path / "run.toml").name == "barn"


def test_bytes_that_are_not_utf_8_are_reported_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(SMALLEST.encode() + "# à côté".encode("latin-1"))
    with pytest.raises(SpecError, match=r"run\.toml, line 4: not UTF-8") as caught:
        read_spec(tmp_path / "run.toml")
    assert "Save the file as UTF-8" in caught.value.fix


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "our.jinja").touch()
    text = 'name = "barn"\n[data]\nsource = "data"\nCHAT[model]\nsource = "owner/name"\n'
    (tmp_path / "run.toml").write_text(text.replace("CHAT", 'chat_template = "our.jinja"\n'))
    spec = read_spec(tmp_path / "run.toml")
    assert spec.data.chat_template == str((tmp_path / "our.jinja").resolve())
    assert spec.data.source == str((tmp_path / "data").resolve())
    assert spec.model.source == "owner/name"


@pytest.mark.parametrize("value", [Dense(bits=2), Sgd(momentum=0.9, nesterov=True), Lora(rank=4)])
def test_specs_are_frozen(value: Dense | Sgd | Lora) -> None:
    with pytest.raises(ValueError, match="frozen"):
        value.kind = "other"  # type: ignore[assignment]


SOURCES = """
name = "barn"
[data]
held_out = 0.1
[[data.sources]]
source = "chats"
weight = 2
[[data.sources]]
source = "hub:owner/name"
config = "en"
"""


def test_several_sources_replace_the_source() -> None:
    first, second = parse_spec(SOURCES).data.all_sources
    assert (first.source, first.weight, first.config) == ("chats", 2.0, None)
    assert (second.source, second.weight, second.config) == ("hub:owner/name", 1.0, "en")


@pytest.mark.parametrize("text", [SMALLEST, SOURCES])
def test_a_charter_carries_the_spec(text: str) -> None:
    spec = parse_spec(text)
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_single_source_is_a_list_of_one() -> None:
    data = parse_spec(SMALLEST + 'config = "en"\nsplit = "test"\n').data
    assert data.all_sources == (SourceSpec(source="x", config="en", split="test"),)
    changed = (SourceSpec(source="y", revision="abc"),)
    assert data.with_sources(changed).all_sources == changed


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            SOURCES.replace("weight", "wieght"),
            "`data.sources #1.wieght` (did you mean `weight`?)",
        ),
        (SOURCES.replace('config = "en"', "weight = 0"), "`data.sources #2.weight`: should be greater"),
        (SOURCES.replace("held_out = 0.1", 'source = "x"'), "exclude each other"),
        (
            SOURCES.replace("held_out = 0.1", 'split = "test"'),
            "`split` belongs into each of [[data.s",
        ),
        ('name = "barn"\n[data]\nheld_out = 0.1', "`source` is missing"),
        ('name = "barn"\n[data]\nsource = "x"\nsubset = "en"', "did you mean `config`?"),
    ],
)
def test_faults_in_the_sources_name_the_table(text: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    assert problem in caught.value.problem


def test_relative_paths_of_all_sources_are_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "chats").mkdir()
    (tmp_path / "run.toml").write_text(SOURCES)
    sources = read_spec(tmp_path / "run.toml").data.all_sources
    assert [source.source for source in sources] == [str((tmp_path / "chats").resolve()), "hub:owner/name"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("none.jsonl", "{}/none.jsonl"),
        ("data/none.jsonl", "{}/data/none.jsonl"),
        ("owner/name", "owner/name"),
        ("hub:owner/name", "hub:owner/name"),
        ("~/none.jsonl", "~/none.jsonl"),
        ("https://example.org/a", "https://example.org/a"),
    ],
)
def test_a_path_of_data_that_does_not_exist_is_relative_to_the_file(
    tmp_path: Path, source: str, expected: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "run.toml").write_text(f'name = "barn"\n[data]\nsource = "{source}"\n')
    assert read_spec(tmp_path / "run.toml").data.source == expected.format(tmp_path)
