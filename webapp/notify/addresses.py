"""Which addresses webhooks may be sent to: global unicast, and nothing else.

Of IPv6 the registries have handed out 2000::/3 alone, so everything outside of it is refused unseen: that takes care of
IPv4-compatible, mapped and translated forms, NAT64, site-local, unique local and whatever is reserved. What is special
inside of 2000::/3, and in IPv4, stands in the tables below, from IANA's special-purpose registries (RFC 6890). Our own
list, since what ``ipaddress`` calls global differs between patch releases of Python and leaves out ISATAP.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

SPECIAL = [
    (ip_network(network), what)
    for what, networks in {
        "belongs to this machine": "0.0.0.0/8 127.0.0.0/8 ::/128 ::1/128",
        "is private": "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7",
        "is shared behind a carrier's NAT": "100.64.0.0/10",
        "is link-local": "169.254.0.0/16 fe80::/10",
        "is site-local": "fec0::/10",
        "is multicast": "224.0.0.0/4 ff00::/8",
        "is reserved for protocols": "192.0.0.0/24 192.88.99.0/24 192.31.196.0/24 192.52.193.0/24 192.175.48.0/24 "
        "2001::/23 2620:4f:8000::/48",
        "is for documentation": "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20",
        "is for benchmarks": "198.18.0.0/15",
        "is reserved": "240.0.0.0/4",
        "holds an IPv4 address": "::/96 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 2002::/16",
        "answers only the cloud's own machines": "168.63.129.16/32",  # Azure's agent, though its number is public
    }.items()
    for network in networks.split()
]
LOOPBACK = [ip_network("127.0.0.0/8"), ip_network("::1/128")]  # not is_loopback: a mapped form is one by some Pythons
UNICAST = IPv6Network("2000::/3")
ISATAP = (0x00005EFE, 0x02005EFE)  # the upper half of the interface id, whatever the prefix (RFC 5214); IPv4 follows


class Inward(ValueError):
    """An address to which webhooks are never sent; the sentence names it and says why."""


def judge(address: Address, *, loopback: bool = False) -> None:
    """Raise Inward unless ``address`` is global unicast; ``loopback`` lets 127.0.0.0/8 and ::1 pass, too."""
    here = loopback and any(address in network for network in LOOPBACK)
    if here or not (what := _flaw(address)):
        return
    raise Inward(f"{address} {what}: webhooks go to public addresses only")


def _flaw(address: Address) -> str:
    """Why ``address`` is not global unicast; "" if it is."""
    special = next((what for network, what in SPECIAL if address in network), "")
    if special or isinstance(address, IPv4Address):
        return special
    if address.scope_id is not None:
        return "names a network interface of this machine"
    if address not in UNICAST:
        return "is not in use on the internet"
    return "holds an IPv4 address" if (int(address) >> 32) & 0xFFFFFFFF in ISATAP else ""


def look_up(host: str, port: int) -> list[Address]:
    """Every address of ``host``, as the system resolves it: 0x7f.1 and 2130706433 are 127.0.0.1. Raises gaierror."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label of 64 letters, an empty one
        raise socket.gaierror(f"{host!r} is no name of a host") from error
    return list(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in found))


def judge_all(addresses: Sequence[Address], *, loopback: bool = False) -> None:
    """Raise Inward if any address may not be sent to: a name that also leads inwards is refused altogether."""
    for address in addresses:
        judge(address, loopback=loopback)


def look_up_within(host: str, port: int, seconds: float) -> list[Address]:
    """As ``look_up``, within a time, as the resolver has no timeout; empty where the name does not resolve in time."""
    found: list[Address] = []

    def ask() -> None:
        try:
            found.extend(look_up(host, port))
        except socket.gaierror:
            return  # nobody knows it yet

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return list(found)
