"""What an object store says when it fails: an OSError in a few words that names the URL and holds no credential."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gemini_batch.ledger.objects import RETRIES, ObjectStore

CANARY = "CANARY-7f3a91"
DENIED = f"""<?xml version="1.0"?><Error><Code>SignatureDoesNotMatch</Code><Message>no</Message>
<AWSAccessKeyId>{CANARY}</AWSAccessKeyId><StringToSign>{CANARY}</StringToSign></Error>"""


@pytest.fixture
def environment(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return monkeypatch


@pytest.fixture
def refusing(environment):
    """A server that refuses everybody, and repeats who asked."""

    class Refuse(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(403)
            self.send_header("Content-Length", str(len(DENIED)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(DENIED.encode())

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

        def log_message(self, *_): ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    environment.setenv("AWS_ENDPOINT_URL", f"http://someone:{CANARY}@127.0.0.1:{server.server_port}")
    yield ObjectStore("s3://bucket/runs")
    server.shutdown()
    thread.join()
    server.server_close()


def lent(store):
    with store.local("x") as path:
        return path


def published(store):
    with store.scratch("x") as scratch:
        scratch.write_bytes(b"1")
        store.publish("x", scratch)


CALLS = [
    lambda store: store.create("x", b""),
    lambda store: store.read("x"),
    lambda store: store.exists("x"),
    lambda store: store.modified("x"),
    lambda store: store.names("x"),
    lambda store: store.delete("x"),
    published,
    lent,
]


@pytest.mark.parametrize("call", CALLS)
def test_a_refusal_names_the_object_and_no_credential(refusing, call):
    with pytest.raises(PermissionError, match=r"^s3://bucket/runs/x: 403 Forbidden") as caught:
        call(refusing)
    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("call", [CALLS[0], CALLS[1], CALLS[4], published])
def test_a_bucket_that_is_not_there_is_no_absent_object(s3, monkeypatch, call):
    """Else a run in a bucket that someone renamed reads as one that never was, and is bought again."""
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OSError, match=r"^s3://no-such-bucket/x: 404 Not Found \(NoSuchBucket\)") as caught:
        call(ObjectStore("s3://no-such-bucket"))
    assert not isinstance(caught.value, FileNotFoundError)


def test_a_server_that_is_not_there_is_one_error_after_some_tries(environment):
    environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    environment.setitem(RETRIES, "max_retries", 2)
    with pytest.raises(OSError, match=r"^s3://bucket/x: no connection \(Connection refused\)$"):
        ObjectStore("s3://bucket").read("x")


def test_an_endpoint_without_a_scheme_is_refused(environment):
    """obstore itself panics, which no `except Exception` sees."""
    environment.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9")
    with pytest.raises(OSError, match=r"^s3://bucket/x: AWS_ENDPOINT_URL must start with http"):
        ObjectStore("s3://bucket").read("x")


def test_a_missing_setting_is_named(monkeypatch):
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OSError, match=r"^az://container/runs: .*[Aa]ccount"):
        ObjectStore("az://container/runs").names("")


def test_a_name_that_no_object_can_have_is_an_error_like_any_other():
    with pytest.raises(OSError, match=r"^memory:///"):
        ObjectStore("memory:///").read("a/../b")
