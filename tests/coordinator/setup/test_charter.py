"""The spec of a chartered run: folder names stay private, and a later change is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.contract.spec import DataSpec, ModelSpec, RunSpec
from barnraise.core.errors import SpecError
from coordinator.setup.charter import check_unchanged, public_spec
from tests.support import parts

WHERE = Path("run.toml")


def spec_of(model: str = "owner/base", revision: str | None = None, **other: object) -> RunSpec:
    fields = {"name": parts.RUN, "model": ModelSpec(source=model, revision=revision)}
    return RunSpec.model_validate({"data": DataSpec(source="/home/ada/chats.jsonl")} | fields | other)


def test_the_swarm_sees_only_the_name_of_a_folder() -> None:
    public = public_spec(spec_of("/home/ada/model"))
    assert (public.model.source, public.data.source) == ("model", "chats.jsonl")
    assert public_spec(spec_of("owner/base")).model.source == "owner/base"


def test_a_pinned_revision_is_no_change() -> None:
    charter = parts.charter(public_spec(spec_of(revision="abc123")), parts.state())
    check_unchanged(charter, spec_of(), WHERE)


def test_a_changed_spec_is_refused() -> None:
    charter = parts.charter(public_spec(spec_of()), parts.state())
    with pytest.raises(SpecError, match=r"run\.toml has changed .*\[seed\], \[model\]"):
        check_unchanged(charter, spec_of("owner/other", seed=7), WHERE)
