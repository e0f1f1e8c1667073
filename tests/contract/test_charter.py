"""A charter of another version: its log begins with a digest of settings that this version does not have."""

from __future__ import annotations

import json

import pytest

from barnraise.contract.charter import Charter, check_version
from barnraise.core.errors import StateError
from barnraise.core.signed import Signed, open_signed, sign
from tests.support import parts


def opened(payload: bytes) -> Signed[Charter]:
    signature = parts.AUTHORITY.sign(Charter.DOMAIN + payload)
    wire = bytes.fromhex(parts.AUTHORITY.public) + signature + payload
    return open_signed(Charter, wire, signer=parts.AUTHORITY.public)


def test_a_charter_that_lacks_a_later_setting_is_of_another_version() -> None:
    charter = parts.charter(parts.run_spec(), parts.state())
    check_version(sign(parts.AUTHORITY, charter))
    fields = json.loads(charter.model_dump_json())
    del fields["spec"]["model"]["attention"]
    earlier = opened(json.dumps(fields, separators=(",", ":")).encode())
    assert earlier.value.spec.model.attention == charter.spec.model.attention, "its default"
    with pytest.raises(StateError):
        check_version(earlier)
