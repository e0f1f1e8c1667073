"""The spec of a chartered run: what the swarm sees of it, and whether it changed since.

Nothing here imports the dataset builder, so that a resumed run does not load it.
"""

from __future__ import annotations

from pathlib import Path

from barnraise.contract.charter import Charter
from barnraise.contract.spec import RunSpec
from barnraise.core.errors import SpecError


def public_spec(spec: RunSpec) -> RunSpec:
    """The spec as the swarm sees it: of a folder on the maintainer's machine only the name remains."""
    return spec.model_copy(
        update={
            "model": spec.model.model_copy(update={"source": _bare(spec.model.source)}),
            "data": spec.data.model_copy(update={"source": _bare(spec.data.source)}),
        }
    )


def check_unchanged(charter: Charter, spec: RunSpec, where: Path) -> None:
    """Raises SpecError when `spec` is not the one that the run was chartered with."""
    pinned = charter.spec.model_copy(
        update={"model": charter.spec.model.model_copy(update={"revision": spec.model.revision})}
    )
    now = public_spec(spec)
    if pinned == now:
        return
    changed = [name for name in RunSpec.model_fields if getattr(pinned, name) != getattr(now, name)]
    raise SpecError(
        f"{where} has changed since the run began: [{'], ['.join(changed)}]",
        fix="A run's spec is fixed, because every volunteer pinned it. Undo the change, or give the run a"
        " new name.",
    )


def _bare(source: str) -> str:
    return Path(source).name if Path(source).is_absolute() else source
