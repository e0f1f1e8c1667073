"""The spec of a chartered run: folder names stay private, and a later change is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.contract.spec import DataSpec, ModelSpec, RunSpec, SourceSpec
from barnraise.core.errors import SpecError
from coordinator.setup.charter import check_unchanged, public_spec
from tests.support import parts
from tests.support.rehearsals import resolved

WHERE = Path("run.toml")


def spec_of(model: str = "owner/base", revision: str | None = None, **other: object) -> RunSpec:
    fields = {"name": parts.RUN, "model": ModelSpec(source=model, revision=revision)}
    return RunSpec.model_validate({"data": DataSpec(source="/home/ada/chats.jsonl")} | fields | other)


def test_the_swarm_sees_only_the_name_of_a_folder() -> None:
    public = public_spec(spec_of("/home/ada/model"))
    assert (public.model.source, public.data.source) == ("model", "chats.jsonl")
    assert public_spec(spec_of("owner/base")).model.source == "owner/base"


def test_the_swarm_sees_only_the_name_of_a_chat_template_and_a_restart_no_change() -> None:
    ours = spec_of(data=DataSpec(source="chats.jsonl", chat_template="/home/ada/our.jinja"))
    public = public_spec(ours)
    assert public.data.chat_template == "our.jinja"
    check_unchanged(parts.charter(public, parts.state()), ours, WHERE)
    other = spec_of(data=DataSpec(source="chats.jsonl", chat_template="chatml"))
    with pytest.raises(SpecError, match=r"\[data\]"):
        check_unchanged(parts.charter(public, parts.state()), other, WHERE)


def test_a_pinned_revision_is_no_change() -> None:
    charter = parts.charter(public_spec(spec_of(revision="abc123")), parts.state())
    check_unchanged(charter, spec_of(), WHERE)


def test_a_changed_spec_is_refused() -> None:
    charter = parts.charter(public_spec(spec_of()), parts.state())
    with pytest.raises(SpecError, match=r"run\.toml has changed .*\[seed\], \[model\]"):
        check_unchanged(charter, spec_of("owner/other", seed=7), WHERE)


def sources_of(*names: tuple[str, str | None]) -> DataSpec:
    return DataSpec(sources=tuple(SourceSpec(source=name, revision=revision) for name, revision in names))


def test_several_sources_keep_their_names_alone_and_their_pinned_revisions() -> None:
    ours = sources_of(("/home/ada/chats.jsonl", None), ("hub:owner/name", "main"))
    public = public_spec(spec_of(data=ours))
    assert [source.source for source in public.data.all_sources] == ["chats.jsonl", "hub:owner/name"]
    pinned = sources_of(("chats.jsonl", None), ("hub:owner/name", "abc123"))
    charter = parts.charter(public.model_copy(update={"data": pinned}), parts.state())
    check_unchanged(charter, spec_of(data=ours), WHERE)
    for other in (sources_of(("hub:owner/name", "main")), sources_of(("/a/chats.jsonl", None), ("b", None))):
        with pytest.raises(SpecError, match=r"\[data\]"):
            check_unchanged(charter, spec_of(data=other), WHERE)


def test_what_the_coordinator_resolved_for_auto_is_no_change() -> None:
    spec = spec_of()
    charter = parts.charter(public_spec(resolved(spec)), parts.state())
    check_unchanged(charter, spec, WHERE)
    check_unchanged(charter, resolved(spec), WHERE)
    model = spec.model.model_copy(update={"attention": "eager"})
    with pytest.raises(SpecError, match=r"\[model\]"):
        check_unchanged(charter, spec.model_copy(update={"model": model}), WHERE)


def test_the_folder_of_another_run_is_named() -> None:
    charter = parts.charter(public_spec(spec_of()), parts.state())
    with pytest.raises(SpecError) as refused:
        check_unchanged(charter, spec_of(name="other"), WHERE)
    assert "--data-dir" in refused.value.fix
