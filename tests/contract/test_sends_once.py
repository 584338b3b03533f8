"""How often a create goes over the wire, and what is made of its end: the paying client against a bare socket.

That nothing is paid for twice rests on the HTTP stack sending once. A release of the SDK that repeats a create by
itself is noticed here, whichever of its halves or settings does it.
"""

import asyncio
import http.client
import json
import socket
import sys
import types
from contextlib import closing, suppress
from urllib.parse import urlsplit

import pytest
from bare_server import (
    answers,
    bare_server,
    closes_unread,
    hangs,
    keeps,
    reply,
    resets,
    resets_unread,
    resets_within_the_request,
)
from google import genai
from google.genai import _api_client

from gemini_batch.config import Account
from gemini_batch.errors import Denied, NotSent, Refused, Throttled, Unavailable
from gemini_batch.gemini import client

MODEL, NAME = "gemini-2.5-flash", "gbd-run-000000-1-d"
JOB = json.dumps({"name": "batches/1", "metadata": {"displayName": NAME, "state": "BATCH_STATE_PENDING"}}).encode()
HASTE_MS = 300
RETRY_AT_ONCE = {"attempts": 3, "initial_delay": 1e-9, "max_delay": 1e-9, "jitter": 1e-9}


def refusal(code: int) -> bytes:
    body = {"error": {"code": code, "message": f"message of {code}", "status": "SOME_STATUS"}}
    return reply(code, json.dumps(body).encode(), "Connection: close")


def chunked(*chunks: bytes) -> bytes:
    """A body in chunks whose last one never comes."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return reply(200, body, "Transfer-Encoding: chunked")


@pytest.fixture(scope="module")
def server():
    with bare_server() as server:
        yield server


def client_of(url: str, timeout_ms: int = client.CREATE_TIMEOUT_MS) -> client.GeminiClient:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "CREATE_TIMEOUT_MS", timeout_ms)
        return client.GeminiClient(Account(endpoint=url, project="p", key="k"))


@pytest.fixture(scope="module")
def gemini(server):
    return client_of(server.url)


@pytest.fixture(scope="module")
def hasty(server):
    """A client that waits for nothing long."""
    return client_of(server.url, HASTE_MS)


def address(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(params=["create_job", "create_other"])
def create(request):
    """Either way in which a job is made."""
    if request.param == "create_job":
        return lambda gemini: gemini.create_job(MODEL, "files/a", NAME)
    return lambda gemini: gemini.create_other(MODEL, "asyncBatchEmbedContent", {"fileName": "files/a"}, NAME)


def test_a_create_is_one_request(server, gemini, create):
    wire = server.treats(answers(reply(200, JOB)))
    assert create(gemini).name == "batches/1"
    assert (wire.connections, wire.requests) == (1, ["POST"])


def test_every_create_has_a_connection_of_its_own(server, gemini, create):
    """A server closes an idle connection when it likes; a create on its way there has an unknown outcome."""
    wire = server.treats(keeps(reply(200, JOB)))
    create(gemini), create(gemini)
    assert (wire.connections, wire.requests) == (2, ["POST", "POST"])


@pytest.mark.parametrize(
    ("code", "leaf"),
    [
        *[(code, Unavailable) for code in (408, 499, 500, 502, 503, 504)],
        (429, Throttled),
        *[(code, Refused) for code in (400, 404, 409, 413)],
        *[(code, Denied) for code in (401, 402, 403)],
    ],
)
def test_a_status_is_taken_as_it_is_and_nothing_is_sent_again(server, gemini, code, leaf, create):
    wire = server.treats(answers(refusal(code)))
    with pytest.raises(leaf) as caught:
        create(gemini)
    assert (type(caught.value), caught.value.code) == (leaf, code)
    assert (wire.connections, wire.requests) == (1, ["POST"])


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(server, gemini, code, create):
    """307 and 308 repeat the POST, elsewhere or in the same place."""
    wire = server.treats(answers(reply(code, b"", "Location: /elsewhere", "Connection: close")))
    with pytest.raises(Unavailable):
        create(gemini)
    assert (wire.connections, wire.requests) == (1, ["POST"])


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_to_where_nobody_listens_is_not_taken_for_a_create_that_was_not_sent(server, gemini, code, create):
    """Followed, it ends in a connection that cannot be made, though the first place has read the create."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        server.treats(answers(reply(code, b"", f"Location: {address(nobody)}/elsewhere")))
        with pytest.raises(Unavailable):
            create(gemini)


@pytest.mark.parametrize(
    "treat",
    [
        pytest.param(answers(), id="closes after the request"),
        pytest.param(resets(), id="resets after the request"),
        pytest.param(resets_within_the_request, id="resets within the request"),
        pytest.param(answers(b"HTTP/1.1 20"), id="half a status line"),
        pytest.param(answers(b"HTTP/1.1 200 OK\r\nContent-"), id="half a head"),
        pytest.param(answers(reply(200, JOB[:20], length=len(JOB))), id="half a body"),
        pytest.param(resets(reply(200, JOB[:20], length=len(JOB))), id="half a body and a reset"),
        pytest.param(answers(b"HTTP/1.1 200 OK\r\n\r\n" + JOB[:20]), id="half a body of no length"),
        pytest.param(answers(chunked(JOB[:20])), id="half of the chunks"),
        pytest.param(answers(reply(503, b"{", length=100)), id="half a refusal"),
        pytest.param(answers(reply(429, b"{", length=100)), id="half a 429"),
    ],
)
def test_after_a_connection_that_broke_nobody_knows(server, gemini, treat, create):
    wire = server.treats(treat)
    with pytest.raises(Unavailable):
        create(gemini)
    assert (wire.connections, wire.requests) == (1, ["POST"])


@pytest.mark.parametrize("treat", [closes_unread, resets_unread])
def test_a_connection_that_closes_at_once_is_not_made_again(server, gemini, treat, create):
    """Whether it broke while it was being made, or while the request was on its way, is a race."""
    wire = server.treats(treat)
    with pytest.raises((NotSent, Unavailable)):
        create(gemini)
    assert (wire.connections, wire.requests) == (1, [])


@pytest.mark.parametrize(
    "treat",
    [
        pytest.param(hangs(), id="no answer"),
        pytest.param(hangs(b"HTTP/1.1 200 OK\r\nContent-"), id="half a head"),
        pytest.param(hangs(reply(200, JOB[:20], length=len(JOB))), id="half a body"),
    ],
)
def test_a_service_that_hangs_is_left_after_a_while(server, hasty, treat, create):
    wire = server.treats(treat)
    with pytest.raises(Unavailable, match="ReadTimeout"):
        create(hasty)
    assert (wire.connections, wire.requests) == (1, ["POST"])


@pytest.mark.parametrize(
    "body",
    [
        b"", b"garbage", b"<html>502</html>", b"\xff\xfe", b"null", b"[]", b"7", b'"text"', b"{}", b'{"name": ""}',
        b'{"name": 5}', b'{"name": null, "metadata": 5}', b'{"name": {"a": 1}}', JOB[:-1], b"[" * 100_000,
    ],
    ids=lambda body: body[:12].decode(errors="replace") or "nothing",
)  # fmt: skip
def test_a_success_that_names_no_job_leaves_the_outcome_unknown(server, gemini, body, create):
    wire = server.treats(answers(reply(200, body)))
    with pytest.raises(Unavailable):
        create(gemini)
    assert (wire.connections, wire.requests) == (1, ["POST"])


def test_a_success_that_cannot_be_unpacked_leaves_the_outcome_unknown(server, gemini, create):
    wire = server.treats(answers(reply(200, JOB, "Content-Encoding: gzip")))
    with pytest.raises(Unavailable):
        create(gemini)
    assert wire.requests == ["POST"]


def test_where_nobody_listens_nothing_was_sent(create):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: the port is nobody else's
        with pytest.raises(NotSent, match="ConnectError"):
            create(client_of(address(taken)))


def test_where_nobody_accepts_nothing_was_sent(create):
    """A machine that drops packets: the connection is never made, however long one waits."""
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for waiting in (first, second):  # as many as the kernel keeps for a server that does not accept
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(deaf.getsockname())
        with pytest.raises(NotSent, match="ConnectTimeout"):
            create(client_of(address(deaf), HASTE_MS))


# --- why: what the SDK does when it is not told ---------------------------------------------------------------------


def sent_by(server, treat, call, **options):
    """How many requests one create of the SDK makes under these options."""
    wire = server.treats(treat)
    options = {"base_url": server.url, "client_args": {"trust_env": False}, **options}
    made = genai.Client(api_key="k", vertexai=False, http_options=options)
    with pytest.raises(Exception):  # noqa: B017 - of whatever class: none of these creates is answered
        call(made)
    made.close()
    return len(wire.requests)


def by_sync(made):
    made.batches.create(model=MODEL, src="files/a")


def by_async(made):
    async def call():
        try:
            await made.aio.batches.create(model=MODEL, src="files/a")
        finally:
            await made.aio.aclose()

    asyncio.run(call())


@pytest.mark.parametrize("call", [by_sync, by_async])
@pytest.mark.parametrize(("attempts", "sent"), [(None, 1), (1, 1), (3, 3)])
@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_retry_options_send_a_create_again_after_an_answer(server, call, attempts, sent, code):
    options = {} if attempts is None else {"retry_options": RETRY_AT_ONCE | {"attempts": attempts}}
    assert sent_by(server, answers(refusal(code)), call, **options) == sent


def test_retry_options_send_a_create_again_after_a_timeout(server):
    assert sent_by(server, hangs(), by_sync, timeout=HASTE_MS, retry_options=RETRY_AT_ONCE) == 3


class Session:
    """What the SDK asks of an aiohttp session: where the server hangs up, it raises."""

    closed = False

    def __init__(self, **_):
        pass

    async def request(self, url, headers, data, **_):
        place = urlsplit(url)
        with closing(http.client.HTTPConnection(place.netloc)) as connection:
            connection.request("POST", place.path, data, headers)
            connection.getresponse()

    _request = request

    async def close(self):
        self.closed = True


class Connector:
    _closed = True

    def __init__(self, **_):
        pass


AIOHTTP = types.SimpleNamespace(
    ClientConnectorError=ConnectionError,
    ClientConnectorDNSError=ConnectionError,
    ClientOSError=ConnectionError,
    ServerDisconnectedError=ConnectionError,
    ClientTimeout=dict,
    ClientSession=Session,
    TCPConnector=Connector,
)
"""As much of aiohttp as a create meets. The SDK's asynchronous half sends with aiohttp wherever that is installed, as
it is with many other packages."""


@pytest.mark.parametrize(("attempts", "sent"), [(None, {"2": 2, "3": 2}), (1, {"2": 2, "3": 1})])
def test_the_asynchronous_half_sends_a_create_again_by_itself(server, monkeypatch, attempts, sent):
    """Counted with aiohttp 3.14 too. SDK 2 does so even if told to try once."""

    async def at_once(seconds):
        return None

    monkeypatch.setitem(sys.modules, "aiohttp", AIOHTTP)
    monkeypatch.setattr(_api_client, "has_aiohttp", True)
    monkeypatch.setattr(_api_client, "aiohttp", AIOHTTP, raising=False)
    monkeypatch.setattr(asyncio, "sleep", at_once)
    options = {} if attempts is None else {"retry_options": {"attempts": attempts}}
    count = sent_by(server, answers(), by_async, **options)
    assert count == sent[genai.version.__version__.partition(".")[0]]
