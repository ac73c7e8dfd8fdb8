"""The proxy of a request: variables, and the forms of NO_PROXY."""

from __future__ import annotations

import urllib.request

import pytest

from gpux.errors import UsageError
from gpux.system.proxies import Proxy, masked
from gpux.system.settings import proxies

PROXY = "http://proxy.example:3128"
HUB = "https://hub.example/api"


def _url(environ: dict[str, str], url: str = HUB) -> str | None:
    found = proxies(environ).for_url(url)
    return found.url if found else None


@pytest.mark.parametrize(
    ("environ", "url", "expected"),
    [
        ({}, HUB, None),
        ({"HTTPS_PROXY": PROXY}, HUB, PROXY),
        ({"HTTPS_PROXY": PROXY}, "http://hub.example", None),
        ({"HTTP_PROXY": PROXY}, HUB, None),
        ({"HTTP_PROXY": PROXY}, "http://hub.example", PROXY),
        ({"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, "http://hub.example", None),
        ({"ALL_PROXY": "socks5://p:1"}, HUB, "socks5://p:1"),
        ({"ALL_PROXY": "socks5h://p:1", "https_proxy": PROXY}, HUB, PROXY),
        ({"https_proxy": "http://lower", "HTTPS_PROXY": "http://upper"}, HUB, "http://lower"),
        ({"https_proxy": "", "HTTPS_PROXY": PROXY}, HUB, None),
        ({"HTTPS_PROXY": "proxy.example:3128"}, HUB, PROXY),
        ({"HTTPS_PROXY": f' "{PROXY}"\r'}, HUB, PROXY),
        ({"HTTPS_PROXY": "  "}, HUB, None),
    ],
)
def test_the_variable_that_applies(environ: dict[str, str], url: str, expected: str | None) -> None:
    assert _url(environ, url) == expected


@pytest.mark.parametrize(
    ("excluded", "url", "direct"),
    [
        ("hub.example", HUB, True),
        ("HUB.example", HUB, True),
        ("hub.example.", "https://hub.example./x", True),
        ("hub.example", "https://cdn.hub.example/x", True),
        ("hub.example", "https://myhub.example/x", False),
        (".hub.example", "https://cdn.hub.example/x", True),
        ("*.hub.example", "https://cdn.hub.example/x", True),
        (".example", HUB, True),
        (".ample", HUB, False),
        ("hub.example:443", HUB, True),
        ("hub.example:8443", HUB, False),
        ("hub.example:8443", "https://hub.example:8443/x", True),
        ("https://hub.example", HUB, True),
        ("http://hub.example", HUB, False),
        ("all://hub.example", HUB, True),
        ("*", HUB, True),
        ("localhost, 127.0.0.1 ,hub.example", HUB, True),
        ("localhost hub.example", HUB, True),
        ("other.example", HUB, False),
        ("", HUB, False),
        (", ,", HUB, False),
        ("127.0.0.1", "https://127.0.0.1:8080/x", True),
        ("127.0.0.1:8080", "https://127.0.0.1:8080/x", True),
        ("127.0.0.1:8080", "https://127.0.0.1:8081/x", False),
        ("10.0.0.0/8", "https://10.2.3.4/x", True),
        ("10.0.0.0/8", "https://11.2.3.4/x", False),
        ("10.1.2.3/8", "https://10.9.9.9/x", True),
        ("10.0.0.0/99", "https://10.2.3.4/x", False),
        ("0.0.1", "https://127.0.0.1/x", False),
        ("::1", "https://[::1]:8080/x", True),
        ("[::1]", "https://[::1]:8080/x", True),
        ("[::1]:8080", "https://[::1]:8080/x", True),
        ("[::1]:8081", "https://[::1]:8080/x", False),
        ("fd00::/8", "https://[fd12::1]/x", True),
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_no_proxy(name: str, excluded: str, url: str, direct: bool) -> None:
    assert _url({"ALL_PROXY": PROXY, name: excluded}, url) == (None if direct else PROXY)


@pytest.mark.parametrize(
    "value",
    [
        *("ftp://proxy.example", "socks4://p:1", "http://", "http://:3128", "http://p:port", "http://p:70000"),
        *("http://p:0", "http://[::1", "http://a b:1", "socks5://ada:secret@p:port", "ada:secret@p:70000"),
        "ada:sec/ret@p:70000",
    ],
)
def test_a_malformed_proxy_is_refused_where_it_applies(value: str) -> None:
    with pytest.raises(UsageError, match="HTTPS_PROXY=") as caught:
        _url({"HTTPS_PROXY": value})
    assert "sec" not in f"{caught.value} {caught.value.hint} {caught.value.details}"
    assert "NO_PROXY" in str(caught.value.hint) and "http://host:port" in str(caught.value.hint)
    for mended in ({"HTTPS_PROXY": value, "NO_PROXY": "hub.example"}, {}, {"HTTPS_PROXY": "http://host:1"}):
        assert _url(mended) in (None, "http://host:1")  # what the hint says


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://ada:secret@p:1", "http://***@p:1"),
        ("socks5h://ada@p:1", "socks5h://***@p:1"),
        ("ada:secret@p:1", "***@p:1"),
        ("http://ada:se@cret@p:1", "http://***@p:1"),
        ("http://p:1", "http://p:1"),
    ],
)
def test_credentials_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown
    assert repr(Proxy("HTTP_PROXY", url)) == f"Proxy(HTTP_PROXY={shown})"


def test_without_variables_the_proxy_of_the_system_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(urllib.request, "getproxies", lambda: {"https": PROXY})
    monkeypatch.setattr(urllib.request, "proxy_bypass", lambda host: host == "inside.example")

    assert _url({}) == PROXY
    assert _url({}, "https://inside.example/x") is None
    assert _url({"NO_PROXY": "hub.example"}) is None
