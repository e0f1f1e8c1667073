"""Proxies and certificates of the environment: what no client can use is the user's error."""

from __future__ import annotations

import asyncio
import os

import pytest

from barnraise.core.errors import UserError
from barnraise.runtime.http_client import http_client, through_proxy


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
