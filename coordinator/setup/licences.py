"""Whether text or weights may be passed on, by the licence that the run spec names: pure."""

from __future__ import annotations

import re
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
_OF_THE_HUB = (OPEN - {"psf-2.0", "python-2.0", "gfdl-1.3", "public-domain"}) | {
    "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigscience-bloom-rail-1.0", "gemma",
    "bigcode-openrail-m", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "llama2",
}  # fmt: skip
"""Names that the Hub takes in a card, as far as a run may meet them: it refuses all others.
huggingface.co/docs/hub/repositories-licenses lists them."""


@dataclass(frozen=True)
class Redistributable:
    licence: str


@dataclass(frozen=True)
class NotRedistributable:
    reason: str


def check_licence(licence: str, key: str) -> Redistributable | NotRedistributable:
    """key: where the run spec names it, such as `data.licence`."""
    name = _plain(licence).removesuffix("-only").removesuffix("-or-later")
    if name in OPEN:
        return Redistributable(name)
    return NotRedistributable(f"{key} is {licence!r}, which is not known to let anybody pass copies on")


def card_fields(licence: str) -> dict[str, str]:
    """What the front matter of a card says of a licence, in words that the Hub accepts."""
    name = _plain(licence)
    if name in ("", "unknown"):
        return {}
    if name in _OF_THE_HUB:
        return {"license": name}
    return {"license": "other", "license_name": name}


def _plain(licence: str) -> str:
    """`Apache 2.0` as `apache-2.0`."""
    return re.sub(r"[^a-z0-9.+]+", "-", licence.lower()).strip("-")
