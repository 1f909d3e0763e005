"""Where a webhook never goes: inwards, through somebody's proxy, or to what is no address."""

from __future__ import annotations

import ipaddress
import socket
import time
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.notify.conftest import Receiver
from webapp.notify import addresses, post
from webapp.notify.models import Endpoint

SPECIAL = {
    "belongs to this machine": "0.0.0.0 0.1.2.3 127.0.0.1 127.255.255.255 :: ::1",
    "is private": "10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 fd00:ec2::254",
    "is shared behind a carrier's NAT": "100.64.0.1 100.127.255.255",
    "is link-local": "169.254.169.254 fe80::1 febf::1 fe80::1%eth0",
    "is site-local": "fec0::1 feff:ffff::1",
    "is multicast": "224.0.0.1 239.255.255.250 ff02::1 ff0e::1",
    "is reserved for protocols": "192.0.0.9 192.88.99.1 192.175.48.1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 "
    "2001:10::1 2001:20::1 2001:1ff:ffff::1",
    "is for documentation": "192.0.2.1 198.51.100.7 203.0.113.9 2001:db8::1 3fff:0fff::1",
    "is for benchmarks": "198.18.0.1 198.19.255.255",
    "is reserved": "240.0.0.1 255.255.255.255",
    "holds an IPv4 address": "::7f00:1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 "
    "64:ff9b::8.8.8.8 64:ff9b:1::a00:1 2002:7f00:1::1 2606:4700::5efe:7f00:1 2606:4700::200:5efe:a00:1",
    "is not in use on the internet": "1::1 100::1 400::1 1fff::1 4000::1 5f00::1 a000::1 fbff::1",
    "answers only the cloud's own machines": "168.63.129.16",
    "names a network interface of this machine": "2606:4700::1111%eth0",
}
PUBLIC = "8.8.8.8 1.1.1.1 100.63.255.255 100.128.0.1 172.32.0.1 192.0.1.1 198.20.0.1 223.255.255.255 2001:200::1 "
PUBLIC += "2001:db9::1 2003::1 240e::1 2606:4700:4700::1111 2a00:1450:4001:81b::200e 3ffe::1 3fff:1000::1"


@pytest.mark.parametrize(("what", "address"), [(what, one) for what, all_ in SPECIAL.items() for one in all_.split()])
def test_only_global_unicast_passes_and_the_rest_hears_why(what: str, address: str) -> None:
    with pytest.raises(addresses.Inward, match=f"{what}: webhooks go to public addresses only"):
        addresses.judge(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC.split())
def test_what_lies_beside_a_special_network_is_public(address: str) -> None:
    addresses.judge(ipaddress.ip_address(address))


INWARDS = [
    "https://127.0.0.1/",
    "https://localhost/",
    "https://LOCALHOST/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[0:0:0:0:0:ffff:7f00:0001]/",
    "https://[::127.0.0.1]/",
    "https://[::ffff:0:127.0.0.1]/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://127.0.0%2e1/",
    "https://0/",
    "https://0.0.0.0/",
    "https://10.1.2.3/",
    "https://169.254.169.254/latest/meta-data/",
    "https://[fe80::1]/",
    "https://[fec0::1]/",
    "https://[fd00::1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2606:4700::5efe:7f00:1]/",
]


@pytest.mark.parametrize("url", INWARDS)
def test_nothing_is_sent_inwards_however_the_address_is_written(url: str) -> None:
    answer = post.post(url, "{}", {})
    assert answer.code is None
    assert answer.problem.endswith(": webhooks go to public addresses only.")


@pytest.mark.parametrize("url", [url for url in INWARDS if "%2e" not in url])
def test_an_endpoint_that_leads_inwards_is_not_even_saved(alice: User, client: Client, url: str) -> None:
    alice.is_superuser = True
    alice.save()
    client.force_login(alice)
    page = client.post("/admin/notify/endpoint/add/", {"description": "Metadata", "url": url, "kinds": ["verdict"]})
    assert "webhooks go to public addresses only" in page.content.decode()
    assert not Endpoint.objects.exists()


def test_an_endpoint_that_no_resolver_knows_yet_is_saved(alice: User, client: Client, resolver: Resolver) -> None:
    alice.is_superuser = True
    alice.save()
    client.force_login(alice)
    form = {"description": "Tracker", "url": "https://tracker.example/in", "kinds": ["verdict"]}
    assert "shown once" in client.post("/admin/notify/endpoint/add/", form).content.decode()
    assert Endpoint.objects.get().url == form["url"]
    assert resolver.asked == ["tracker.example"]


def test_whoever_saves_an_endpoint_does_not_wait_for_a_slow_resolver(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post, "LOOK_UP_S", 0.05)
    resolver.delay_s = 3
    started = time.monotonic()
    post.check_destination("https://tracker.example/")
    assert time.monotonic() - started < 2


# --- names: every address counts, and the one that is connected to counts again ----------------


class Resolver:
    """Stands where the system's resolver stands: what each look-up of a name says, in order; the last goes on."""

    def __init__(self) -> None:
        self.says: list[list[str]] = []
        self.asked: list[str] = []
        self.delay_s = 0.0
        self._system = socket.getaddrinfo

    def __call__(self, host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if not host.endswith(".example"):
            return self._system(host, port, *args, **kwargs)
        self.asked.append(host)
        time.sleep(self.delay_s)
        if not self.says:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        said = self.says[0] if len(self.says) == 1 else self.says.pop(0)
        return [found for address in said for found in self._system(address, port, type=socket.SOCK_STREAM)]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return resolver


def by_name(receiver: Receiver) -> str:
    return receiver.url.replace("127.0.0.1", "tracker.example")


def test_a_name_is_followed_to_its_receiver(receiver: Receiver, resolver: Resolver) -> None:
    resolver.says = [["127.0.0.1"]]
    assert post.post(by_name(receiver), "{}", {}).code == 204
    assert receiver.got[0].headers["host"] == f"tracker.example:{receiver.server_port}"


@pytest.mark.parametrize("others", [["127.0.0.1", "10.0.0.7"], ["10.0.0.7", "127.0.0.1"], ["127.0.0.1", "fec0::7"]])
def test_a_name_with_one_foot_inside_gets_nothing(receiver: Receiver, resolver: Resolver, others: list[str]) -> None:
    resolver.says = [others]
    assert post.post(by_name(receiver), "{}", {}).problem.endswith(": webhooks go to public addresses only.")
    assert receiver.got == []


@pytest.mark.parametrize("then", ["127.0.0.1", "10.0.0.7", "fec0::7", "::ffff:0:7f00:1", "2606:4700::5efe:7f00:1"])
def test_a_name_that_leads_elsewhere_the_second_time_gains_nothing(resolver: Resolver, then: str) -> None:
    resolver.says = [["8.8.8.8"], [then]]
    answer = post.post("https://rebound.example:9/", "{}", {})
    assert answer.problem.endswith(": webhooks go to public addresses only.")
    assert resolver.asked == ["rebound.example"] * 2


def test_the_development_flag_opens_loopback_and_nothing_else(settings: Any) -> None:
    settings.WEBHOOKS_ALLOW_LOOPBACK = True
    for host in ("10.1.2.3", "169.254.169.254", "0.0.0.0", "[fec0::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]"):
        assert "public addresses only" in post.post(f"http://{host}/", "{}", {}).problem


def test_a_proxy_of_the_environment_is_not_asked(
    tracker: Endpoint, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    assert post.post(tracker.url, "{}", {}).code == 204


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://tracker.example/", "must start with https://"),
        ("ftp://tracker.example/", "must start with https://"),
        ("https://", "names no host"),
        ("https://tracker.example:0/", "names no host and port"),
        ("https://tracker.example:99999/", "Port out of range"),
        ("https://alice:secret@tracker.example/", "must not hold a name or a password"),
        ("https://@tracker.example/", "must not hold a name or a password"),
        ("https://tracker.example\\@10.0.0.1/", "percent-encoded, as %5C"),
        ("https://tracker.example/a b", "percent-encoded, as %20"),
        ("https://tracker.exa\tmple/", "percent-encoded, as %09"),
        ("https://[127.0.0.1]/", "url: "),
        ("https://１２７.０.０.１/", "names no host that can be connected to"),
        ("https://127。0。0。1/", "names no host that can be connected to"),
        ("https://*.example/", "names no host that can be connected to"),
    ],
)
def test_an_address_that_could_never_be_sent_to_is_refused_with_the_reason(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        post.check_url(url)
