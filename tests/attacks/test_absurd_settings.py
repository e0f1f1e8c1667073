"""A maintainer whose run spec has absurd values: each is refused by name, or does no harm to a volunteer.

The settings are found by introspection, so that a new one is tried too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from barnraise.contract.assign import Assignment
from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.rounds import Window
from barnraise.contract.spec import RunSpec
from barnraise.contract.standing import NONE
from barnraise.contract.state import TrainState
from barnraise.contract.weights import weigh_commits
from barnraise.core.errors import BarnraiseError, SpecError
from barnraise.core.ids import Millis, PublicKey, Round
from barnraise.core.signed import sign
from barnraise.core.strict import parse_table
from barnraise.fold.aggregators import Contribution
from barnraise.fold.codec import Decoder, blob_limit, encode_in_place
from barnraise.fold.fold import fold
from barnraise.models.trainable import initial_state
from peer.training.trainer import Trainer
from peer.volunteer.policy import plan
from tests.support import parts
from tests.support.devices import CPU
from tests.support.policy_views import seen
from tests.support.tiny import make_tiny_model, tiny_samples

NUMBERS = (0, -1, 1, 1e-300, 10**15, 10**15 + 1, 2**53, 2**63 - 1, 2**64, 10**30, 1e300)
LORA = {"kind": "lora", "rank": 2, "modules": ["q_proj"]}
SPECS: dict[str, dict[str, Any]] = {
    "diloco": {
        "train": {"target": LORA, "schedule": {"rounds": 100, "tokens": 10**6}},
        "outer": {"kind": "sgd", "momentum": 0.5},
        "checkpoint": {"rollback_rounds": 32, "average": 4},
        "round": {"steps": 3, "target_tokens": 1000},
        "data": {"sources": [{"source": "y"}]},
        "trust": {"mode": "open", "vouched": [parts.ADA.public]},
    },
    "gradient": {
        "train": {"target": LORA, "method": "gradient"},
        "outer": {"kind": "adamw"},
        "codec": {"kind": "sparse"},
    },
    "muon": {"train": {"target": {"kind": "full"}, "inner": {"optimizer": "muon"}}, "codec": {"kind": "raw"}},
}
PART_PATHS = {"train", "outer", "codec"}
"""Of the settings by which a volunteer computes."""


@cache
def table(name: str) -> dict[str, Any]:
    """A spec with every setting in it."""
    given = copy.deepcopy(SPECS[name])
    given.setdefault("data", {"source": "x"})
    spec = RunSpec.model_validate_json(json.dumps({"name": parts.RUN, **given}))
    found: dict[str, Any] = json.loads(spec.model_dump_json())
    return found


def leaves(value: Any, kinds: tuple[type, ...], path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of the values of these kinds."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from leaves(inner, kinds, (*path, key))
    if isinstance(value, kinds) and not isinstance(value, bool):
        yield path


def changed(name: str, path: Sequence[Any], value: Any) -> dict[str, Any]:
    found = copy.deepcopy(table(name))
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return found


def cases(kinds: tuple[type, ...]) -> list[Any]:
    seen_paths: set[tuple[Any, ...]] = set()
    found = []
    for name in SPECS:
        for path in leaves(table(name), kinds):
            kind = table(name).get(str(path[0]))
            own = (path, json.dumps(kind.get("kind")) if isinstance(kind, dict) else "")
            if own not in seen_paths:
                seen_paths.add(own)
                found.append(pytest.param(name, path, id=f"{name}:{'.'.join(map(str, path))}"))
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def decided(spec: RunSpec) -> None:
    """What every volunteer does with a spec before and around its training."""
    window = Window(Round(3), Millis(parts.NOW), spec.round)
    for now in (window.opens, window.deadline, window.deadline + 1):
        plan(seen(spec.round, now=Millis(now)))
    commits = [parts.commit(owner) for owner in (parts.ADA, parts.BEN)]
    weigh_commits(commits, NONE, spec.trust)
    Assignment(spec.seed, Round(3), PublicKey(parts.ADA.public), (5, 7)).take(0, 8)


def folded(spec: RunSpec) -> None:
    """A round with the spec's codec, aggregate and outer optimizer."""
    state = TrainState(parts.tensors(1))
    blobs = [encode_in_place(spec.codec, parts.tensors(seed), parts.LAYOUT) for seed in (2, 3)]
    assert blob_limit(spec.codec, parts.LAYOUT) < 2**24
    decoders = [Decoder(blob, spec.codec, parts.LAYOUT) for blob in blobs]
    with np.errstate(all="ignore"):
        for _ in range(2):
            state = fold(state, [Contribution.unlimited(decoder, 64) for decoder in decoders], spec)
    state.hash()


def trained(spec: RunSpec, base: Path) -> None:
    """Two inner steps of the tiny model, and the update."""
    state = initial_state(base, spec.train.target, spec.seed)
    trainer = Trainer(base, spec, CPU, micro_batch=2)
    trainer.load(state)
    for seed in (1, 2):
        trainer.step(tiny_samples(2, seed=seed))
    trainer.take_update(state)


def harmless(found: dict[str, Any], path: Sequence[Any], base: Path) -> bool:
    """Whether the spec is accepted. Anything but a BarnraiseError ends the test."""
    try:
        spec = parse_table(RunSpec, found, SpecError, "run.toml")
    except SpecError:
        return False
    charter = parts.charter(spec, TrainState(parts.tensors(1)))
    if len(sign(parts.AUTHORITY, charter).text) > MAX_CHARTER_BYTES:
        return False  # volunteers do not read it
    assert Charter.parse(charter.payload) == charter
    decided(spec)
    if path[0] in PART_PATHS:
        for work in (lambda: folded(spec), lambda: trained(spec, base)):
            with suppress(BarnraiseError):
                work()
    return True


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(("name", "path"), cases((int, float)))
def test_an_absurd_number_is_refused_or_does_no_harm(name: str, path: tuple[Any, ...], base: Path) -> None:
    taken = [number for number in NUMBERS if harmless(changed(name, path, number), path, base)]
    assert not {2**64, 10**30, 1e300, -1}.intersection(taken), "no setting needs it"


def test_every_number_of_a_spec_is_tried() -> None:
    tried = {case.values[1][-1] for case in cases((int, float))}
    schema = RunSpec.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    numbers = {
        name
        for model in models
        for name, setting in model.get("properties", {}).items()
        if "enum" not in setting
        and {"integer", "number"} & {each.get("type") for each in (setting, *setting.get("anyOf", ()))}
    }
    assert len(numbers) > 30
    assert tried >= numbers


@pytest.mark.parametrize(("name", "path"), cases((str,)))
def test_a_text_without_end_is_refused_or_does_no_harm(name: str, path: tuple[Any, ...], base: Path) -> None:
    assert not harmless(changed(name, path, "x" * 100_000), path, base), "volunteers' logs have it"


def test_names_of_layers_are_bounded(base: Path) -> None:
    """Each is looked for among all modules of the model."""
    path = ("train", "target", "modules")
    assert harmless(changed("diloco", path, ["q_proj", "v_proj"]), path, base)
    assert not harmless(changed("diloco", path, ["q_proj"] * 100_000), path, base)


def test_a_spec_that_is_nested_deeply_is_refused() -> None:
    for text in ('{"a":' * 100_000, "[" * 100_000):
        with pytest.raises(ValueError, match="recursion limit"):
            Charter.parse(text.encode())
