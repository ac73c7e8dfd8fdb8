"""Which addresses are fetched for a client: CVE-2025-6242, CVE-2026-24779 and CVE-2026-33626 are cases of it."""

from __future__ import annotations

import asyncio

import pytest

from gpux.errors import InputError
from gpux.server.media.addresses import checked_ip, host_of, is_public, parse_address, resolve


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "ftp://example.com/a.png",
        "gopher://example.com/",
        "//example.com/a.png",
        "http:/example.com/a.png",
        "http:///a.png",
        "http://user@example.com/",
        "http://user:password@example.com/",
        "http://example.com@169.254.169.254/",
        "http://127.0.0.1\\@example.com/",  # CVE-2026-24779: one parser sees 127.0.0.1, another example.com
        "http://example.com\\@127.0.0.1/",
        "http:\\\\127.0.0.1\\",
        "http://127.0.0.1\t/",
        "http://exa mple.com/",
        "http://example.com\r\nhost: evil/",
        "http://ex%61mple.com/",
        "http://127.0.0.1%2f@example.com/",
        "http://１２７.0.0.1/",
        "http://①②⑦.0.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://127.1/",
        "http://127.0.0.1.5/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://localhost/",
        "http://LOCALHOST./",
        "http://db/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://printer.local/",
        "http://example.com:25/",
        "http://example.com:22/",
        "http://example.com:99999/",
        "http://-example.com/",
        "http://a..com/",
        "http://example.com/" + "a" * 5000,
        "",
    ],
)
def test_an_address_that_is_not_plain_is_refused(address: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_address(address)
    assert "is not fetched" in caught.value.message
    assert "example" not in caught.value.message


def test_a_plain_address_is_accepted() -> None:
    for address in (
        "http://example.com/a.png?b=c#d",
        "HTTPS://Example.COM:443/",
        "https://xn--bcher-kva.example.com/",
        "http://93.184.215.14/a.wav",
        "https://[2606:2800:21f:cb07::1]:8443/",
    ):
        assert host_of(parse_address(address)) in address.lower()


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.0.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192", "168.63.129.16"),  # metadata, CGNAT
        *("198.18.0.1", "192.0.2.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.88.99.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::127.0.0.1", "::7f00:1"),
        *("2002:7f00:1::1", "2002:a9fe:a9fe::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1"),
        *("2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "127.1", "2130706433", "0x7f.0.0.1", "", "localhost"),
    ],
)
def test_an_ip_address_that_is_not_of_the_public_internet_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "1.1.1.1", "2606:2800:21f:cb07::1", "::ffff:1.1.1.1"])
def test_a_public_ip_address_is_accepted(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address", ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:5000/", "http://[::ffff:7f00:1]/"]
)
def test_the_metadata_service_and_this_machine_are_refused(address: str) -> None:
    with pytest.raises(InputError, match="not on the public internet"):
        asyncio.run(checked_ip(parse_address(address), resolve, is_public))


def test_a_name_that_has_one_private_address_is_refused() -> None:
    async def both(host: str, port: int) -> list[str]:
        return ["93.184.215.14", "10.0.0.7"]

    with pytest.raises(InputError, match="not on the public internet"):
        asyncio.run(checked_ip(parse_address("http://example.com/"), both, is_public))


def test_a_name_without_an_address_is_refused() -> None:
    async def none(host: str, port: int) -> list[str]:
        raise OSError("no such name, says the resolver at 10.0.0.2")

    with pytest.raises(InputError, match="is not known") as caught:
        asyncio.run(checked_ip(parse_address("http://example.com/"), none, is_public))
    assert "10.0.0.2" not in str(caught.value)
