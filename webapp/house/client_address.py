"""Where a request comes from, as far as anything is counted by it. Pure."""

from __future__ import annotations

import ipaddress

UNKNOWN = "nowhere known"  # a unix socket, or a proxy that says nothing


def network_of(host: str | None) -> str:
    """The address to count by: an IPv4 address itself, of IPv6 the /64, which is one household's or one machine's."""
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
    """Addresses and networks, comma-separated, as the web server takes them. Raises ValueError that names one."""
    found = [word.strip() for word in text.split(",") if word.strip()]
    for word in found:
        try:
            ipaddress.ip_network(word)
        except ValueError as error:
            raise ValueError(f"{word!r} is no IP address or network, as 10.0.0.7 or 10.0.0.0/24") from error
    return found
