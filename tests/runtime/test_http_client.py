"""Proxies and certificates of the environment: what no client can use is the user's error."""

from __future__ import annotations

import asyncio
import os
from datetime import date

import pytest

from barnraise.core.errors import UserError
from barnraise.runtime.http_client import cause_of, http_client, through_proxy


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


async def make() -> None:
    async with http_client():
        pass


@pytest.mark.parametrize("proxy", ["nonsense:::/", "ftp://host:1"])
def test_a_proxy_that_is_no_address_is_named(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(UserError) as caught:
        asyncio.run(make())
    assert "(https_proxy)" in caught.value.problem


def test_certificates_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(UserError) as caught:
        asyncio.run(make())
    assert "SSL_CERT_FILE" in caught.value.fix


def test_an_error_names_the_proxy_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert through_proxy("https://model.example/file") == ""
    monkeypatch.setenv("https_proxy", "http://ada:secret@proxy.example:3128")
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert through_proxy("https://model.example/file") == " through the proxy proxy.example:3128"
    assert through_proxy("https://127.0.0.1:7453/file") == ""
    assert through_proxy("http://model.example/file") == "", "a proxy for https alone"


@pytest.mark.parametrize("invalid", ["certificate is not yet valid", "certificate has expired"])
def test_a_certificate_that_is_not_valid_today_shows_this_machine_s_date(invalid: str) -> None:
    text = f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {invalid} (_ssl.c:1006)"
    assert cause_of(OSError(text), date(2006, 1, 2)) == f"{text}; this machine's date is 2006-01-02"


def test_other_errors_have_their_text_or_their_type() -> None:
    assert cause_of(OSError("no route")) == "no route"
    assert cause_of(TimeoutError()) == "TimeoutError"
