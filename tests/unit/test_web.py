"""A URL in a manifest reaches what anyone may read, and nothing that only this machine can."""

import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest

from gemini_batch.clock import SystemClock
from gemini_batch.errors import RowError
from gemini_batch.jobs import web
from gemini_batch.jobs.web import fetch_url, is_public

SEEN = []


class Pages(BaseHTTPRequestHandler):
    """What a server of pictures may do."""

    def do_GET(self):
        SEEN.append(self.path)
        name, _, rest = self.path.lstrip("/").partition("/")
        getattr(self, f"_{name}", self._status)(rest or name)

    def log_message(self, *_):
        pass

    def _answer(self, status, body=b"", **headers):
        self.send_response(status)
        for field, value in {"Content_Length": len(body), **headers}.items():
            self.send_header(field.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def _status(self, code):
        self._answer(int(code) if code.isdigit() else 404)

    def _ok(self, rest):
        self._answer(200, b"picture " + rest.encode())

    def _long(self, rest):
        self._answer(200, b"x" * int(rest))

    def _cut(self, _rest):
        self._answer(200, b"x" * 10, Content_Length=20)

    def _to(self, rest):
        self._answer(302, Location=rest if "//" in rest else f"/{rest}")

    def _loop(self, _rest):
        self._answer(302, Location="/loop")


@pytest.fixture
def server():
    SEEN.clear()
    made = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    with closing(made.socket):
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
    thread.join()


def fetched(url, folder, **how):
    fetch_url(url, folder / "got", SystemClock(), **how)
    return (folder / "got").read_bytes()


def refused(url, folder, said, **how):
    with pytest.raises(RowError, match=said) as caught:
        fetched(url, folder, **how)
    return caught.value


def test_a_picture_is_fetched_also_over_a_redirect_on_its_host(server, tmp_path):
    assert fetched(f"{server}/ok/a", tmp_path) == b"picture a"
    assert fetched(f"{server}/to/ok/b", tmp_path) == b"picture b"
    assert fetched(f"{server}/ok/ü x?a=b c", tmp_path) == b"picture %C3%BC%20x?a=b%20c"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("404", "HTTP 404"),
        ("403", "HTTP 403"),
        ("to/http://localhost/x", "another host"),
        ("to/https://example.com/x", "another host"),
        ("loop", "more than 3"),
    ],
)
def test_what_is_not_there_or_leads_away_is_refused_at_once(server, tmp_path, path, said):
    refused(f"{server}/{path}", tmp_path, said)
    assert len(SEEN) == (4 if path == "loop" else 1)


@pytest.mark.parametrize(("path", "said"), [("500", "HTTP 500"), ("429", "HTTP 429"), ("cut", "cut after 10")])
def test_what_may_pass_is_tried_thrice_and_then_fails_its_row(server, tmp_path, path, said):
    assert refused(f"{server}/{path}", tmp_path, said).kind == "media_unreadable"
    assert [f"/{path}"] * 3 == SEEN


def test_what_is_too_large_is_not_read_to_its_end(server, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "MAX_PICTURE_BYTES", 100_000)
    assert refused(f"{server}/long/100001", tmp_path, "larger than").kind == "oversized"
    assert len(fetched(f"{server}/long/100000", tmp_path)) == 100_000


def test_what_takes_too_long_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "TOTAL_SECONDS", -1.0)
    refused(f"{server}/ok/a", tmp_path, "takes longer")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.com/x", "not https"),
        ("http://127.0.0.1.example.com/x", "not https"),
        ("ftp://example.com/x", "no http"),
        ("https:///x", "no http"),
        ("https://user:secret@example.com/x", "user or password"),
        ("https://[::1/x", "no URL"),
        ("https://a:99999/x", "no URL"),
    ],
)
def test_a_url_of_another_kind_is_refused_before_anything_is_looked_up(tmp_path, url, said):
    refused(url, tmp_path, said, resolve=lambda host, port: pytest.fail("looked up"))


@pytest.mark.parametrize(
    "found",
    [
        ["169.254.169.254"],
        ["10.0.0.1"],
        ["93.184.216.34", "192.168.0.1"],
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:10.0.0.1"],
        ["fe80::1%eth0"],
        [],
    ],
)
def test_a_name_that_leads_to_what_is_not_public_is_refused(tmp_path, found):
    """Also one whose name server says loopback, and where one address of several is private."""
    refused("https://pictures.example/x", tmp_path, "not public", resolve=lambda host, port: found)


def test_a_loopback_name_that_leads_elsewhere_is_refused(tmp_path):
    refused("http://localhost/x", tmp_path, "not public", resolve=lambda host, port: ["93.184.216.34"])


def test_a_signature_in_a_url_is_not_shown(server, tmp_path):
    assert "SECRET" not in refused(f"{server}/404?sig=SECRET", tmp_path, "404").message


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("0.0.0.0", False),
        ("100.64.0.1", False),
        ("172.16.0.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("fc00::1", False),
        ("fe80::1", False),
        ("ff02::1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("::ffff:93.184.216.34", True),
        ("::ffff:169.254.169.254", False),
    ],
)
def test_public_is_what_anyone_can_reach(address, public):
    assert is_public(ip_address(address)) is public
