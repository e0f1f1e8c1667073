"""A charter keeps the digest of the bytes that were signed, also where the reader's version adds a field."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from barnraise.contract.charter import NEEDS, Charter
from barnraise.core.errors import MalformedRecord, NewerVersion, StateError
from barnraise.core.signed import Signed, open_signed, sign
from tests.support import parts

CHARTER = parts.charter(parts.run_spec(), parts.state())
SETTINGS = "c99f083e77598d90"
"""Digest of the names of all settings that `NEEDS` has."""


def opened(payload: bytes) -> Signed[Charter]:
    signature = parts.AUTHORITY.sign(Charter.DOMAIN + payload)
    wire = bytes.fromhex(parts.AUTHORITY.public) + signature + payload
    return open_signed(Charter, wire, signer=parts.AUTHORITY.public)


def payload_of(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def fields() -> dict[str, Any]:
    return dict(json.loads(CHARTER.model_dump_json()))


def test_a_later_setting_does_not_change_the_digest_of_an_earlier_charter() -> None:
    """The reader's version has a setting with a default that the signer's version did not have."""
    earlier = fields()
    del earlier["spec"]["model"]["attention"]
    payload = payload_of(earlier)
    charter = opened(payload).value
    assert charter.spec == CHARTER.spec
    assert charter.digest == hashlib.sha256(payload).hexdigest() != CHARTER.digest
    assert sign(parts.AUTHORITY, charter).payload == payload


def test_a_changed_copy_has_another_digest() -> None:
    charter = opened(CHARTER.payload).value
    assert charter == CHARTER
    assert charter.model_copy(update={"genesis": parts.HASH_B}).digest != charter.digest


@pytest.mark.parametrize("needs", ["0.2.0", "1", "0.1.0.1", "9999.0"])
def test_a_charter_of_a_newer_version_names_it(needs: str) -> None:
    later = fields() | {"needs": needs}
    later["spec"]["round"]["later"] = 1
    with pytest.raises(NewerVersion) as caught:
        opened(payload_of(later))
    assert caught.value.release == needs
    assert caught.value.exit_code == StateError.exit_code


def test_a_charter_of_the_unreleased_format_is_refused_by_name() -> None:
    old = fields()
    del old["needs"]
    with pytest.raises(StateError) as caught:
        opened(payload_of(old))
    assert not isinstance(caught.value, NewerVersion)
    assert "Begin a new run" in caught.value.fix


def test_an_unknown_setting_of_this_version_is_malformed() -> None:
    with pytest.raises(MalformedRecord):
        opened(payload_of(fields() | {"later": 1}))


def test_a_new_setting_raises_what_a_charter_needs() -> None:
    """Where this fails, pin the new settings; where `NEEDS` is released, set it to the next release."""

    def names(value: object, path: str = "") -> list[str]:
        if not isinstance(value, dict):
            return [path]
        return [name for key, inner in sorted(value.items()) for name in names(inner, f"{path}.{key}")]

    definitions = {
        name: sorted(model.get("properties", {}))
        for name, model in Charter.model_json_schema()["$defs"].items()
    }
    found = hashlib.sha256(json.dumps([definitions, names(fields())], sort_keys=True).encode()).hexdigest()
    assert (NEEDS, found[:16]) == ("0.1.0", SETTINGS)
