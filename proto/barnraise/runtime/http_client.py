"""HTTP clients with the proxies and certificates of the environment, and what errors say of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import httpx2

from barnraise.core.errors import UserError
from barnraise.runtime.machine_clocks import utc_now


@asynccontextmanager
async def http_client(**settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """settings: as of `httpx2.AsyncClient`. Raises UserError for a proxy or certificates that no client can
    use.
    """
    try:
        client = httpx2.AsyncClient(**settings)
    except (httpx2.InvalidURL, ValueError, ImportError) as error:
        names = ", ".join(f"{name}_proxy" for name in getproxies_environment() if name != "no")
        raise UserError(
            f"the environment names a proxy that cannot be used ({names}): {str(error).split('. ')[0]}",
            fix="Set it as in https_proxy=http://HOST:PORT, or unset it.",
        ) from None
    except OSError as error:  # ssl.SSLError is one
        raise UserError(
            f"the trusted certificates cannot be read: {error.strerror or error}",
            fix="Correct or unset SSL_CERT_FILE and SSL_CERT_DIR.",
        ) from None
    async with client:
        yield client


def is_web_address(text: str) -> bool:
    """Whether `text` is the address of a web server, and not a folder."""
    return text.startswith(("http://", "https://"))


def cause_of(error: Exception, today: date | None = None) -> str:
    """The text of a request's error, with this machine's date where a certificate is not valid at it."""
    text = str(error) or type(error).__name__
    if "is not yet valid" in text or "has expired" in text:  # OpenSSL's words
        return f"{text}; this machine's date is {today or utc_now().date()}"
    return text


def through_proxy(url: str) -> str:
    """For the error of a request to `url`: " through the proxy HOST:PORT", or nothing where none is used."""
    asked, proxies = urlsplit(url), getproxies_environment()
    proxy = proxies.get(asked.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(asked.hostname or ""):
        return ""
    return f" through the proxy {without_password(proxy)}"


def without_password(proxy: str) -> str:
    """The host and port of a proxy as the environment names it."""
    found = urlsplit(proxy if "://" in proxy else f"//{proxy}")
    return found.netloc.rpartition("@")[2]
