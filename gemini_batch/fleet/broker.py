"""The broker's address and clients of it.

`rediss://` always verifies the server's certificate and name; a URL cannot turn that off. Passwords are never shown.
redis-py is imported with the first client: it brings asyncio along, and most commands have no broker.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from gemini_batch.errors import BadInput

if TYPE_CHECKING:
    import redis

SOCKET_SECONDS = 10.0
"""kombu's default is to wait for ever on a dead connection."""

HEALTH_SECONDS = 25
"""An idle connection is tried before it is used: load balancers drop them after a minute or more."""

FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True)
class Broker:
    """Where the doorbells are."""

    url: str = field(repr=False)
    """With the password, without a query."""
    files: dict[str, str] = field(default_factory=dict)
    """`ssl_ca_certs` and the like."""

    @property
    def shown(self) -> str:
        """For people: without user and password."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @property
    def tls(self) -> dict[str, Any] | None:
        """Settings for a client of `rediss://`, None for one without TLS."""
        if not self.url.startswith("rediss://"):
            return None
        import ssl  # noqa: PLC0415

        return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, **self.files}

    def connect(self) -> "redis.Redis":
        """A client that gives up after a while instead of waiting for ever. Makes no connection yet."""
        import redis  # noqa: PLC0415
        from redis.backoff import ExponentialBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415

        return redis.Redis.from_url(
            self.url,
            socket_timeout=SOCKET_SECONDS,
            socket_connect_timeout=SOCKET_SECONDS / 2,
            health_check_interval=HEALTH_SECONDS,
            retry=Retry(ExponentialBackoff(cap=1), 1),
            **(self.tls or {}),
        )

    def ping(self) -> None:
        """Raise if nobody answers.

        Raises:
            BadInput: names the address, not the password.
        """
        import redis  # noqa: PLC0415

        client = self.connect()
        try:
            client.ping()
        except (redis.RedisError, OSError, UnicodeError) as error:  # a host name may be none
            raise BadInput(f"--broker {self.shown} does not answer: {_without(self.url, str(error))}") from None
        finally:
            client.close()


def read_broker(url: str) -> Broker:
    """Check an address.

    Raises:
        BadInput: it is no address of a Redis server, or would weaken TLS. Never shows what was given: it may hold a
            password.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"redis", "rediss"} and bool(parts.hostname) and parts.port != 0
        usable = usable and parts.path.strip("/").isdecimal() | (not parts.path.strip("/")) and not parts.fragment
    except ValueError:
        usable = False
    if not usable:
        raise BadInput("--broker: redis://host:port/db or rediss://user:password@host:port/db is due")
    files = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in FILES and parts.scheme == "rediss":
            files[name] = value
        elif (name, value) != ("ssl_cert_reqs", "required"):
            raise BadInput(f"--broker: of settings behind a ?, rediss:// takes {', '.join(FILES)} and no others")
    return Broker(urlunsplit((*parts[:3], "", "")), files)


def _without(url: str, text: str) -> str:
    password = urlsplit(url).password
    return text.replace(password, "***") if password else text
