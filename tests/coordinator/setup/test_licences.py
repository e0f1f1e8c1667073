"""Which licences permit redistribution, and what cards state."""

from __future__ import annotations

import pytest

from coordinator.reasons.setup import NotRedistributable, Redistributable
from coordinator.setup.licences import card_fields, check_licence


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("apache-2.0", "apache-2.0"),
        ("Apache 2.0", "apache-2.0"),
        (" CC-BY-SA-4.0 ", "cc-by-sa-4.0"),
        ("GPL-3.0-or-later", "gpl-3.0"),
        ("LGPL-3.0-only", "lgpl-3.0"),
        ("PSF-2.0", "psf-2.0"),
        ("Public Domain", "public-domain"),
    ],
)
def test_licences_that_permit_redistribution(written: str, name: str) -> None:
    assert check_licence(written, "data.licence") == Redistributable(name)


@pytest.mark.parametrize(
    "written",
    ["", "unknown", "other", "cc-by-nc-4.0", "cc-by-nd-4.0", "llama2", "mit?no", "not mit", "mit-0.x"],
)
def test_all_others_are_not_redistributable(written: str) -> None:
    assert check_licence(written, "data.licence") == NotRedistributable("data.licence", written)


def test_card_fields_have_values_that_the_hub_accepts() -> None:
    assert card_fields("Apache 2.0") == {"license": "apache-2.0"}
    assert card_fields("PSF-2.0") == {"license": "other", "license_name": "psf-2.0"}
    assert card_fields("our own\n---\nlicense: mit") == {
        "license": "other",
        "license_name": "our-own-license-mit",
    }
    assert card_fields("unknown") == card_fields("") == {}
