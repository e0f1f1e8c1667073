"""Fetches a dataset of the Hugging Face Hub: the files to train on, of one commit.

They are read as those of a folder. `datasets` is not used: it would write all rows to the disk a second time,
and its rows have no file and line.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from barnraise.core.errors import DatasetError
from coordinator.dataset.sources.folder import read_card

_CARD = "README.md"
R = TypeVar("R")


@dataclass(frozen=True)
class HubCommit:
    """A commit of a dataset."""

    repo: str
    commit: str
    names: tuple[str, ...]
    """Paths of its files."""

    def card(self) -> Mapping[str, Any] | None:
        """The front matter of its README.md. Raises DatasetError."""
        return read_card(self.fetch((_CARD,)) / _CARD) if _CARD in self.names else None

    def fetch(self, names: tuple[str, ...]) -> Path:
        """The folder with these files, fetched unless the Hub's cache has them. Raises DatasetError."""
        return _fetched(self.repo, self.commit, names)


@cache
def find_commit(repo: str, revision: str | None) -> HubCommit:
    """The commit that a branch, a tag or None (the default branch) names now. Raises DatasetError."""
    from huggingface_hub import HfApi

    info = _asked(repo, revision, lambda: HfApi().dataset_info(repo, revision=revision))
    return HubCommit(repo, str(info.sha), tuple(file.rfilename for file in info.siblings or ()))


@cache
def _fetched(repo: str, commit: str, names: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [glob.escape(name) for name in names]
    folder = _asked(
        repo,
        commit,
        lambda: snapshot_download(repo, repo_type="dataset", revision=commit, allow_patterns=patterns),
    )
    return Path(folder)


def _asked(repo: str, revision: str | None, ask: Callable[[], R]) -> R:
    from huggingface_hub import errors

    # The client's HTTP library differs between versions; this is the base of its errors in each.
    failures: tuple[type[Exception], ...] = (
        *errors.HfHubHTTPError.__bases__,
        OSError,
        errors.HFValidationError,
    )
    name = f"hub:{repo}{f' at {revision}' if revision else ''}"
    try:
        return ask()
    except errors.GatedRepoError:
        raise DatasetError(
            f"{name} is gated: its owner requires that you accept its terms first",
            fix=f"Accept them at https://huggingface.co/datasets/{repo}, then run `hf auth login`.",
        ) from None
    except errors.RevisionNotFoundError:
        raise DatasetError(
            f"hub:{repo} has no branch, tag or commit `{revision}`",
            fix="Correct `revision`, next to `source` in run.toml, or remove it.",
        ) from None
    except errors.RepositoryNotFoundError:
        raise DatasetError(
            f"the Hugging Face Hub has no dataset {repo}, or it is private",
            fix="Correct `source` in run.toml, or run `hf auth login` for a private dataset.",
        ) from None
    except failures as error:
        raise DatasetError(
            f"{name} cannot be fetched from the Hub: {(str(error).splitlines() or [''])[0]}",
            fix="Check the internet connection, or download the dataset and give the path of its folder.",
        ) from None
