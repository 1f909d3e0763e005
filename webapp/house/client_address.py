"""The network that a request is counted under: limits by address use it. Pure."""

from __future__ import annotations

import ipaddress

UNKNOWN = "nowhere known"  # a unix socket, or a proxy that says nothing


def network_of(host: str | None) -> str:
    """An IPv4 address itself; of an IPv6 address its /64, which one household or machine has."""
    try:
        address = ipaddress.ip_address((host or "").partition("%")[0])
    except ValueError:
        return UNKNOWN
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


def proxies(text: str) -> list[str]:
    """Parse a comma-separated list of addresses and networks. ValueError names a wrong one."""
    found = [word.strip() for word in text.split(",") if word.strip()]
    for word in found:
        try:
            ipaddress.ip_network(word)
        except ValueError as error:
            raise ValueError(f"{word!r} is no IP address or network, as 10.0.0.7 or 10.0.0.0/24") from error
    return found
