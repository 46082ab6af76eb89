"""The address of the client, through the proxies that the config trusts, and whether it is this machine.

The access log has the address; some pages are for this machine only. Nothing else reads
``X-Forwarded-For``. Anybody can send that header, so it counts only when a trusted proxy hands it over, and
then only as far from the right as trusted proxies wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

__all__ = ["Proxies", "is_local"]

# More proxies than this are not looked through: the header is as long as its sender likes.
_HOPS = 32
# What waitress and gunicorn say for the other end of a unix socket.
_UNIX = ("", "localhost")
_FORWARDING = frozenset(
    f"HTTP_{name}"
    for name in (
        "CDN_LOOP",
        "CF_CONNECTING_IP",
        "FASTLY_CLIENT_IP",
        "FORWARDED",
        "TRUE_CLIENT_IP",
        "VIA",
        "X_CLIENT_IP",
        "X_CLUSTER_CLIENT_IP",
        "X_FORWARDED",
        "X_FORWARDED_BY",
        "X_FORWARDED_FOR",
        "X_FORWARDED_HOST",
        "X_FORWARDED_PORT",
        "X_FORWARDED_PREFIX",
        "X_FORWARDED_PROTO",
        "X_FORWARDED_SCHEME",
        "X_FORWARDED_SERVER",
        "X_FORWARDED_SSL",
        "X_REAL_IP",
    )
)


class Proxies:
    """The proxies of ``[server] trusted_proxies``: IP addresses and networks, or ``*`` for every peer.

    ``*`` trusts what connects to this server and nothing behind that: were the entries of the header trusted
    as well, its first one would count, which is what the visitor likes to be. Raises ValueError for other
    texts, which the config has refused already.
    """

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._is_anybody = "*" in trusted
        self._networks = tuple(ip_network(each) for each in trusted if each != "*")

    def __bool__(self) -> bool:
        return self._is_anybody or bool(self._networks)

    def client(self, peer: str, forwarded: str) -> str:
        """The address of the client of *peer*, as canonical text, an IPv4 one never as ``::ffff:``.

        *peer* is REMOTE_ADDR and *forwarded* the X-Forwarded-For that it sent. The answer is *peer* where
        that is not trusted, else the rightmost entry that is no trusted proxy; where all are, or one is
        malformed, the last one before.
        """
        connected = _parsed(peer.partition("%")[0])  # a link-local address has its interface behind a %
        found = peer if connected is None else str(connected)
        if not (self._is_anybody or (connected is not None and self._has(connected))):
            return found
        for entry in reversed(forwarded.rsplit(",", _HOPS)[-_HOPS:]):
            hop = _parsed(entry)
            if hop is None:
                break
            found = str(hop)
            if not self._has(hop):
                break
        return found

    def _has(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def is_local(environ: Mapping[str, object]) -> bool:
    """Whether a program on this machine asks, and asks us itself.

    A proxy on this machine makes every visitor of the internet look like that, so a header that proxies add
    makes it False. Also where the proxy is trusted and says that its client is 127.0.0.1: granian takes a
    header ``X_Forwarded_For`` for ``X-Forwarded-For`` and keeps the last one, and not every proxy holds back
    what visitors send in that spelling. A proxy that adds none of these headers can't be told from a local
    program; nothing here helps against that.
    """
    peer = str(environ.get("REMOTE_ADDR", ""))
    if not _FORWARDING.isdisjoint(environ):
        return False
    connected = _parsed(peer)
    return peer in _UNIX if connected is None else connected.is_loopback


@lru_cache(maxsize=4096)
def _parsed(entry: str) -> IPv4Address | IPv6Address | None:
    """The address in ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1`` or ``[2001:db8::1]:80``; else None."""
    host, port = entry.strip(" \t"), ""
    if host.startswith("["):
        host, bracket, port = host[1:].partition("]")
        if not bracket or ":" not in host:
            return None
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
        port = f":{port}"
    is_port = port[:1] == ":" and port[1:].isascii() and port[1:].isdecimal() and len(port) <= 6
    # A zone may be any text (fe80::1%<script>), and means an interface of another machine.
    if (port and not is_port) or "%" in host:
        return None
    try:
        found = ip_address(host)
    except ValueError:
        return None
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found
