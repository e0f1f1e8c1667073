"""Whether text or weights may be passed on, by the licence that the run spec names: pure."""

from __future__ import annotations

from dataclasses import dataclass

OPEN = frozenset(
    {
        "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "psf-2.0", "python-2.0",
        "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "odc-by", "odbl", "pddl",
        "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "gpl-2.0", "gpl-3.0", "lgpl-3.0",
        "agpl-3.0", "mpl-2.0", "gfdl-1.3", "public-domain",
    }
)  # fmt: skip
"""Hub and SPDX names of licences that let anybody pass copies on."""


@dataclass(frozen=True)
class MayPassOn:
    licence: str


@dataclass(frozen=True)
class Withheld:
    reason: str


def judge(licence: str, key: str) -> MayPassOn | Withheld:
    """key: where the run spec names it, such as `data.licence`."""
    name = licence.strip().lower().replace(" ", "-").removesuffix("-only").removesuffix("-or-later")
    if name in OPEN:
        return MayPassOn(name)
    return Withheld(f"{key} is {licence!r}, which is not known to let anybody pass copies on")
