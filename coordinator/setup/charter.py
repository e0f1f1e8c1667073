"""The spec of a chartered run: what the swarm sees of it, and whether it changed since.

Nothing here imports the dataset builder, so that a resumed run does not load it.
"""

from __future__ import annotations

from pathlib import Path

from barnraise.contract.charter import Charter
from barnraise.contract.spec import RunSpec
from barnraise.core.errors import SpecError


def public_spec(spec: RunSpec) -> RunSpec:
    """The spec as the swarm sees it: of a path on the maintainer's machine only the name remains."""
    sources = (source.model_copy(update={"source": _bare(source.source)}) for source in spec.data.all_sources)
    template = spec.data.chat_template
    return spec.model_copy(
        update={
            "model": spec.model.model_copy(update={"source": _bare(spec.model.source)}),
            "data": spec.data.with_sources(tuple(sources)).model_copy(
                update={"chat_template": template and _bare(template)}
            ),
        }
    )


def check_unchanged(charter: Charter, spec: RunSpec, where: Path) -> None:
    """Raises SpecError when `spec` is not the one that the run was chartered with."""
    pinned, now = _as_asked(charter.spec, spec), public_spec(spec)
    if pinned == now:
        return
    if pinned.name != now.name:
        raise SpecError(
            f"{where} is of the run {now.name!r}, and the folder has the run {pinned.name!r}",
            fix="Give each run its own folder with --data-dir.",
        )
    changed = [name for name in RunSpec.model_fields if getattr(pinned, name) != getattr(now, name)]
    raise SpecError(
        f"{where} has changed since the run began: [{'], ['.join(changed)}]",
        fix="A run's spec is fixed, because every volunteer pinned it. Undo the change, or give the run a"
        " new name.",
    )


def _as_asked(pinned: RunSpec, asked: RunSpec) -> RunSpec:
    """`pinned` with what the coordinator resolved when the run began as `asked` has it."""
    sources = tuple(
        each.model_copy(update={"revision": now.revision})
        for each, now in zip(pinned.data.all_sources, asked.data.all_sources, strict=False)
    )
    same = len(sources) == len(pinned.data.all_sources)
    data = pinned.data.with_sources(sources) if same else pinned.data
    model: dict[str, object] = {"revision": asked.model.revision}
    if asked.model.attention == "auto":
        model["attention"] = "auto"
    if asked.data.packing == "auto":
        data = data.model_copy(update={"packing": "auto"})
    return pinned.model_copy(update={"model": pinned.model.model_copy(update=model), "data": data})


def resolved_spec(pinned: RunSpec, asked: RunSpec) -> RunSpec:
    """`asked` with what the coordinator resolved when the run began: the inverse of `_as_asked`."""
    sources = tuple(
        each.model_copy(update={"revision": then.revision})
        for each, then in zip(asked.data.all_sources, pinned.data.all_sources, strict=True)
    )
    data = asked.data.with_sources(sources).model_copy(update={"packing": pinned.data.packing})
    model = asked.model.model_copy(
        update={"revision": pinned.model.revision, "attention": pinned.model.attention}
    )
    return asked.model_copy(update={"model": model, "data": data})


def _bare(source: str) -> str:
    return Path(source).name if Path(source).is_absolute() else source
