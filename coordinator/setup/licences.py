"""Whether the licence that a run spec names permits redistribution of text or weights: pure."""

from __future__ import annotations

import re

from coordinator.reasons.setup import NotRedistributable, Redistributable

OPEN = frozenset(
    {
        "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "psf-2.0", "python-2.0",
        "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "odc-by", "odbl", "pddl",
        "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "gpl-2.0", "gpl-3.0", "lgpl-3.0",
        "agpl-3.0", "mpl-2.0", "gfdl-1.3", "public-domain",
    }
)  # fmt: skip
"""Hub and SPDX names of licences that permit redistribution by anyone."""
_OF_THE_HUB = (OPEN - {"psf-2.0", "python-2.0", "gfdl-1.3", "public-domain"}) | {
    "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigscience-bloom-rail-1.0", "gemma",
    "bigcode-openrail-m", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "llama2",
}  # fmt: skip
"""Names that the Hub accepts in a card, of those that a run is likely to have: it rejects all others.
huggingface.co/docs/hub/repositories-licenses lists them."""


def check_licence(licence: str, key: str) -> Redistributable | NotRedistributable:
    """key: where the run spec names the licence, such as `data.licence`."""
    name = _plain(licence).removesuffix("-only").removesuffix("-or-later")
    return Redistributable(name) if name in OPEN else NotRedistributable(key, licence)


def card_fields(licence: str) -> dict[str, str]:
    """The licence fields of a card's front matter, with values that the Hub accepts."""
    name = _plain(licence)
    if name in ("", "unknown"):
        return {}
    if name in _OF_THE_HUB:
        return {"license": name}
    return {"license": "other", "license_name": name}


def _plain(licence: str) -> str:
    """`Apache 2.0` as `apache-2.0`."""
    return re.sub(r"[^a-z0-9.+]+", "-", licence.lower()).strip("-")
