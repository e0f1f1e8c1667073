"""Which folder of an archive a format and a revision select. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from barnraise.contract.archive import (
    BEST,
    LATEST,
    MAIN,
    ArchiveIndex,
    Repo,
    Revision,
    find_revision,
    place_of,
    tag_of,
)
from barnraise.contract.manifest import Form, Manifest, first_key
from barnraise.core.errors import UserError
from barnraise.core.ids import blob_hash
from barnraise.core.signed import Signed
from peer.download.events import WholeModelTrained

Format = Literal["adapter", "model", "merged", "gguf", "base", "data"]
"""adapter, model: the trained form. merged: the adapter merged into its base. gguf: a file for llama.cpp."""


@dataclass(frozen=True)
class Published:
    """The archive has the form."""

    form: Form
    revision: Revision
    note: WholeModelTrained | None = None
    """Why the form differs from the one asked for."""


@dataclass(frozen=True)
class ToConvert:
    """The archive lacks the form; it can be converted from the trained one."""

    form: Literal["merged", "gguf"]
    of: Revision
    """Of the trained form."""


def index_of(signed: Signed[Manifest], own: str | None = None) -> ArchiveIndex:
    """The index of an archive with this checkpoint only. own: its repository's name for Hub clients."""
    manifest = signed.value
    revision = Revision(
        folder=place_of(manifest),
        manifest=blob_hash(signed.wire),
        round=manifest.round,
        names=(MAIN, LATEST, BEST, tag_of(manifest)),
    )
    repo = Repo(
        id=own or f"{manifest.run}/{manifest.form}",
        kind="dataset" if manifest.form == "data" else "model",
        form=manifest.form,
        revisions=(revision,),
    )
    return ArchiveIndex(
        version=2, run=manifest.run, authority=first_key(signed), closed=0, replay_from=0, repos=(repo,)
    )


def select_form(
    index: ArchiveIndex, adapter: bool, wanted: Format | None, revision: str
) -> Published | ToConvert:
    """adapter: whether the run trains one. wanted: None for the trained form.

    Raises UserError that lists the published forms.
    """
    match wanted:
        case None:
            return _published(index, "trained", revision)
        case "adapter" | "model" if (wanted == "adapter") != adapter:
            raise UserError(
                f"this run trains {'an adapter' if adapter else 'all parameters of a model'}",
                fix=f"Give --format {'adapter, or merged for the whole model' if adapter else 'model'}.",
            )
        case "adapter" | "model":
            return _published(index, "trained", revision)
        case "merged" if not adapter:
            found = _published(index, "trained", revision)
            return Published("trained", found.revision, WholeModelTrained())
        case "merged" | "gguf":
            return _other_form(index, wanted, revision)
        case "base" | "data":
            return _published(index, wanted, revision)


_OF_CHECKPOINTS: tuple[Form, ...] = ("trained", "merged", "gguf")


def _published(index: ArchiveIndex, form: Form, revision: str) -> Published:
    repo = index.repo(form)
    if form in _OF_CHECKPOINTS and index.repo("trained") is None:
        raise UserError(
            "this run has no checkpoint yet",
            fix="The coordinator evaluates the first one before it publishes it: try again in some minutes.",
        )
    if repo is None or not repo.revisions:
        raise UserError(f"this run has published no {form} form", fix=_published_forms(index))
    return Published(form, find_revision(repo, revision))


def _other_form(index: ArchiveIndex, form: Literal["merged", "gguf"], revision: str) -> Published | ToConvert:
    """`revision`: of the trained form, or a commit of the form itself."""
    repo, trained = index.repo(form), index.repo("trained")
    if trained is None:
        return _published(index, form, revision)
    try:
        of = find_revision(trained, revision)
    except UserError:
        if repo is None:
            raise
        return _published(index, form, revision)
    there = _same_checkpoint(repo, of)
    return ToConvert(form, of) if there is None else Published(form, there)


def _same_checkpoint(repo: Repo | None, of: Revision) -> Revision | None:
    revisions = repo.revisions if repo is not None else ()
    return next((revision for revision in revisions if revision.tag == of.tag), None)


def _published_forms(index: ArchiveIndex) -> str:
    forms = [repo.form for repo in index.repos if repo.revisions]
    return f"There are: {', '.join(forms)}." if forms else "Try again after its first checkpoint."
