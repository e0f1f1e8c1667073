"""Which connections of strangers a node closes. Pure.

Admitted keys are unlimited here, also where many of them share an address: carriers put thousands of homes
behind one. Strangers are about to join, or look something up, and soon gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from barnraise.core.ids import PublicKey

MAX_STRANGERS = 128
"""Connected keys without an admission."""
MAX_PER_ADDRESS = 32
"""Of them, those of one IP address."""


def connections_to_close(
    strangers: Mapping[PublicKey, Sequence[str]], since: Mapping[PublicKey, float]
) -> list[PublicKey]:
    """The strangers over a limit, longest connected first.

    strangers: the addresses of their connections. since: when each was seen first.
    """
    oldest_first = sorted(strangers, key=lambda key: (since[key], key))
    by_host: dict[str, list[PublicKey]] = defaultdict(list)
    for key in oldest_first:
        for host in {host for address in strangers[key] if (host := _host(address))}:
            by_host[host].append(key)
    crowded = {key for keys in by_host.values() for key in keys[: max(0, len(keys) - MAX_PER_ADDRESS)]}
    left = [key for key in oldest_first if key not in crowded]
    crowded.update(left[: max(0, len(left) - MAX_STRANGERS)])
    return [key for key in oldest_first if key in crowded]


def _host(address: str) -> str | None:
    """The IP address of a multiaddress; None where a relay is between."""
    parts = address.split("/")
    return parts[2] if len(parts) > 2 and "p2p-circuit" not in parts else None
