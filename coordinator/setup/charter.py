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
    pinned, now = _with_revisions_of(spec, charter.spec), public_spec(spec)
    if pinned == now:
        return
    changed = [name for name in RunSpec.model_fields if getattr(pinned, name) != getattr(now, name)]
    raise SpecError(
        f"{where} has changed since the run began: [{'], ['.join(changed)}]",
        fix="A run's spec is fixed, because every volunteer pinned it. Undo the change, or give the run a"
        " new name.",
    )


def _with_revisions_of(spec: RunSpec, pinned: RunSpec) -> RunSpec:
    """`pinned` with the revisions that `spec` names, before the coordinator pinned them to commits."""
    sources = tuple(
        each.model_copy(update={"revision": now.revision})
        for each, now in zip(pinned.data.all_sources, spec.data.all_sources, strict=False)
    )
    same = len(sources) == len(pinned.data.all_sources)
    return pinned.model_copy(
        update={
            "model": pinned.model.model_copy(update={"revision": spec.model.revision}),
            "data": pinned.data.with_sources(sources) if same else pinned.data,
        }
    )


def _bare(source: str) -> str:
    return Path(source).name if Path(source).is_absolute() else source
