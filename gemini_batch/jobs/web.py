"""A picture at an http(s) URL, for runs that allow it: a row must not reach what only this machine can.

In: a URL. Out: its bytes in a file, or a `RowError`. Refused: other schemes; http unless the host is a loopback one by
its name; users and passwords; hosts with any address that is not public (the address that was looked at is the one
that is connected to); redirects to other hosts; what is too large or too slow.
"""

import http.client
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from gemini_batch.clock import Clock
from gemini_batch.errors import RowError
from gemini_batch.gemini.media import MAX_PICTURE_BYTES

REDIRECTS = 3
CONNECT_SECONDS = 10.0
"""For a connection, and for the next bytes."""

TOTAL_SECONDS = 60.0
"""For a picture, redirects included."""

TRIES = 3
"""Of a host that does not answer; what then fails is one row, unpaid."""

CHUNK_BYTES = 1 << 16

KEPT_IN_PATHS = "/%:@!$&'()*+,;=~-._?"
"""What a path or query may hold as it stands (RFC 3986), `%` of what is quoted already among it."""

HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "Connection": "close"}

REDIRECTED = {301, 302, 303, 307, 308}

CARRIERS = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"), ip_network("2002::/16"), ip_network("2001::/32"))
"""IPv6 networks that carry IPv4 addresses, private ones among them (RFC 6052, 8215, 3056, 4380)."""

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Sequence[str]]


def addresses(host: str, port: int) -> list[str]:
    """What a name resolves to, numbers only."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def fetch_url(url: str, target: Path, clock: Clock, resolve: Resolve = addresses) -> None:
    """Write what lies at `url` to `target`.

    Raises:
        RowError: it is refused, is not there, or does not come.
    """
    until = clock.boottime() + TOTAL_SECONDS
    for tried in range(1, TRIES + 1):
        try:
            return _follow(url, target, clock, until, resolve)
        except ValueError as error:  # of a name that cannot be one of a host
            raise _refusal(url, f"is no URL ({error})") from None
        except (OSError, http.client.HTTPException) as error:
            if tried == TRIES or clock.boottime() >= until:
                raise _refusal(url, f"did not come in {tried} tries ({type(error).__name__}: {error})") from None
    return None


def _follow(url: str, target: Path, clock: Clock, until: float, resolve: Resolve) -> None:
    here = url
    for _ in range(REDIRECTS + 1):
        parts = _checked(url, here)
        connection = _connection(url, parts, resolve)
        try:
            connection.request("GET", _path_of(parts), headers=HEADERS)
            answer = connection.getresponse()
            if answer.status not in REDIRECTED:
                _save(url, answer, target, clock, until)
                return
            here = urljoin(here, answer.headers.get("Location", ""))
        finally:
            connection.close()
        there = urlsplit(here)
        if (there.scheme, there.netloc) != (parts.scheme, parts.netloc):
            raise _refusal(url, f"redirects to another host ({there.scheme}://{there.hostname})")
    raise _refusal(url, f"redirects more than {REDIRECTS} times")


def _checked(url: str, here: str) -> SplitResult:
    try:
        parts = urlsplit(here)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise _refusal(url, f"is no URL ({error})") from None
    if not host or parts.scheme not in {"http", "https"}:
        raise _refusal(url, "is no http(s) URL with a host")
    if parts.username is not None or parts.password is not None:
        raise _refusal(url, "holds a user or password")
    if parts.scheme == "http" and not _is_loopback_name(host):
        raise _refusal(url, "is not https")
    return parts


def _connection(url: str, parts: SplitResult, resolve: Resolve) -> http.client.HTTPConnection:
    """To an address that was looked at: a name may resolve to another one a moment later."""
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    found = [ip_address(address.partition("%")[0]) for address in resolve(host, port)]
    allowed = _is_loopback if _is_loopback_name(host) else is_public
    if not found or not all(map(allowed, found)):
        raise _refusal(url, f"leads to an address that is not public ({', '.join(map(str, found)) or 'none'})")
    made = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = made(host, port, timeout=CONNECT_SECONDS)
    plain = socket.create_connection((str(found[0]), port), CONNECT_SECONDS)
    try:
        connection.sock = _tls().wrap_socket(plain, server_hostname=host) if secure else plain
    except BaseException:
        plain.close()
        raise
    return connection


@cache
def _tls() -> ssl.SSLContext:
    """Verifies certificates and names; making one takes tens of milliseconds."""
    return ssl.create_default_context()


def is_public(address: Address) -> bool:
    """Whether anyone on the internet could reach it."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if any(address in network for network in CARRIERS):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _is_loopback(address: Address) -> bool:
    return address.is_loopback


def _is_loopback_name(host: str) -> bool:
    """Whether a host is meant as this machine: by name or number, not by what a name server says."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _path_of(parts: SplitResult) -> str:
    path = quote(parts.path or "/", safe=KEPT_IN_PATHS)
    return f"{path}?{quote(parts.query, safe=KEPT_IN_PATHS)}" if parts.query else path


def _save(url: str, answer: http.client.HTTPResponse, target: Path, clock: Clock, until: float) -> None:
    if answer.status >= 500 or answer.status in {408, 429}:
        raise OSError(f"HTTP {answer.status}")
    if answer.status != 200:
        raise _refusal(url, f"answers HTTP {answer.status}")
    size, due = 0, answer.length  # None where the answer does not say; `read1` does not count it down
    with target.open("wb") as sink:
        while size != due and (chunk := answer.read1(CHUNK_BYTES)):
            size += len(chunk)
            if size > MAX_PICTURE_BYTES:
                raise RowError("oversized", f"picture {url!r} is larger than {MAX_PICTURE_BYTES:,} bytes")
            if clock.boottime() > until:
                raise _refusal(url, f"takes longer than {TOTAL_SECONDS:.0f} seconds")
            sink.write(chunk)
    if due is not None and size != due:
        raise OSError(f"cut after {size:,} bytes")


def _refusal(url: str, why: str) -> RowError:
    shown = url.partition("?")[0]  # what follows may be a signature
    return RowError("media_unreadable", f"picture {shown!r} {why}")
