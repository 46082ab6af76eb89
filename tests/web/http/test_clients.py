"""X-Forwarded-For counts as far as trusted proxies wrote it, and nobody looks local through a proxy."""

from __future__ import annotations

import pytest

from imagefactory.web.http.clients import Proxies, is_local

NONE: list[str] = []
LAN = ["10.0.0.0/8", "127.0.0.1", "fd00::/8"]


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "expected"),
    [
        (NONE, "192.0.2.1", None, "192.0.2.1"),
        (NONE, "192.0.2.1", "198.51.100.7", "192.0.2.1"),
        (NONE, "::ffff:192.0.2.1", None, "192.0.2.1"),
        (NONE, "2001:DB8:0::1", None, "2001:db8::1"),
        (NONE, "fe80::1%eth0", None, "fe80::1"),
        (NONE, "", None, ""),
        (NONE, "", "198.51.100.7", ""),
        (NONE, "localhost", None, "localhost"),
        (LAN, "192.0.2.1", "198.51.100.7", "192.0.2.1"),
        (LAN, "10.0.0.1", None, "10.0.0.1"),
        (LAN, "10.0.0.1", "", "10.0.0.1"),
        (LAN, "10.0.0.1", "198.51.100.7", "198.51.100.7"),
        (LAN, "::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        (LAN, "fd00::1", "198.51.100.7", "198.51.100.7"),
        (LAN, "10.0.0.1", "6.6.6.6, 198.51.100.7", "198.51.100.7"),
        (LAN, "10.0.0.1", "127.0.0.1, 198.51.100.7", "198.51.100.7"),
        (LAN, "10.0.0.1", "6.6.6.6,198.51.100.7 ,\t10.9.9.9,fd00::2", "198.51.100.7"),
        (LAN, "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (LAN, "10.0.0.1", "198.51.100.7:5555", "198.51.100.7"),
        (LAN, "10.0.0.1", "2001:db8::7", "2001:db8::7"),
        (LAN, "10.0.0.1", "[2001:db8::7]", "2001:db8::7"),
        (LAN, "10.0.0.1", "[2001:db8::7]:443", "2001:db8::7"),
        (LAN, "10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        (LAN, "10.0.0.1", "::ffff:10.0.0.9", "10.0.0.9"),
        # malformed: what is left of it is not looked at
        (LAN, "10.0.0.1", "198.51.100.7, unknown", "10.0.0.1"),
        (LAN, "10.0.0.1", "198.51.100.7, _hidden, 10.0.0.2", "10.0.0.2"),
        (LAN, "10.0.0.1", "198.51.100.7,", "10.0.0.1"),
        (LAN, "10.0.0.1", "198.51.100.7,,10.0.0.2", "10.0.0.2"),
        (LAN, "10.0.0.1", "198.51.100.7:", "10.0.0.1"),
        (LAN, "10.0.0.1", "198.51.100.7:x", "10.0.0.1"),
        (LAN, "10.0.0.1", "198.51.100.7:\u0661", "10.0.0.1"),
        (LAN, "10.0.0.1", "198.51.100.7:1234567", "10.0.0.1"),
        (LAN, "10.0.0.1", "[2001:db8::7", "10.0.0.1"),
        (LAN, "10.0.0.1", "[2001:db8::7]x", "10.0.0.1"),
        (LAN, "10.0.0.1", "[198.51.100.7]", "10.0.0.1"),
        (LAN, "10.0.0.1", "fe80::1%<script>", "10.0.0.1"),
        (LAN, "10.0.0.1", "1", "10.0.0.1"),
        (LAN, "10.0.0.1", "010.1.1.1", "10.0.0.1"),
        (LAN, "10.0.0.1", "198.51.100.7\n", "10.0.0.1"),
        (LAN, "10.0.0.1", "\xff\x00", "10.0.0.1"),
        pytest.param(LAN, "10.0.0.1", "6.6.6.6" + ",10.0.0.2" * 50_000, "10.0.0.2", id="endless"),
        # "*" trusts who connects, and nobody behind
        (["*"], "192.0.2.1", None, "192.0.2.1"),
        (["*"], "192.0.2.1", "127.0.0.1, 198.51.100.7", "198.51.100.7"),
        (["*"], "", "127.0.0.1, 198.51.100.7", "198.51.100.7"),
        (["*"], "", None, ""),
        (["*", "10.0.0.0/8"], "192.0.2.1", "6.6.6.6, 198.51.100.7, 10.0.0.1", "198.51.100.7"),
    ],
)
def test_the_address_of_the_client(
    trusted: list[str], peer: str, forwarded: str | None, expected: str
) -> None:
    assert Proxies(trusted).client(peer, forwarded or "") == expected


def test_a_server_that_says_nothing_has_a_client_without_address() -> None:
    assert Proxies().client("", "") == ""


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("", True),
        ("localhost", True),
        ("192.0.2.1", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:192.0.2.1", False),
        ("fe80::1%lo", False),
        ("localhost.example.com", False),
        ("unknown", False),
    ],
)
def test_local_is_the_loopback_or_a_unix_socket(peer: str, expected: bool) -> None:
    assert is_local({"REMOTE_ADDR": peer, "HTTP_USER_AGENT": "x"}) is expected


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", ""])
@pytest.mark.parametrize("value", ["", "127.0.0.1", "192.0.2.1"])
@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-For",
        "Forwarded",
        "X-Real-IP",
        "Via",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Client-IP",
        "X-Forwarded-Prefix",
        "X-Forwarded-Ssl",
        "CF-Connecting-IP",
        "True-Client-IP",
        "CDN-Loop",
    ],
)
def test_whoever_comes_through_a_proxy_is_not_local(peer: str, value: str, name: str) -> None:
    assert not is_local({"REMOTE_ADDR": peer, f"HTTP_{name.upper().replace('-', '_')}": value})
