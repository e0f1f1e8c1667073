"""Renders who can reach the addresses of an invite."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.contract.endpoints import Reach
from coordinator.reasons import addresses as reasons


def address_message(doubt: reasons.AddressDoubt) -> str:
    """One line for the maintainer."""
    match doubt:
        case reasons.LimitedReach(host, reach):
            return f"{host} is {_reach(reach)}"
        case reasons.OtherFamily(host, version, listens):
            return (
                f"{host} is an IPv{version} address, and this coordinator listens on {listens}:"
                " volunteers reach it only where something forwards to that. --host :: listens on both"
            )
        case _:
            assert_never(doubt)


def _reach(reach: Reach) -> str:
    match reach:
        case "this machine":
            return "a loopback address: only programs on this machine can join. Others need --public-host"
        case "local network":
            return (
                "a private address: only machines of the same network or VPN can join. For others, forward"
                " the ports at the router and give its public address with --public-host"
            )
        case "no one":
            return "not an address of the internet: no one there can join with it. Give another --public-host"
        case "everyone":
            return "reachable by everyone"
        case _:
            assert_never(reach)
