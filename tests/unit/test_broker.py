"""The broker's address: what is taken, what is refused, and that a password is never shown."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.config import resolve
from gemini_batch.errors import BadInput
from gemini_batch.fleet.broker import read_broker

PASSWORD = "CANARY-PW-7f3a91"

TAKEN = {
    "redis://localhost": "redis://localhost",
    "redis://localhost/": "redis://localhost/",
    "redis://127.0.0.1:6379/0": "redis://127.0.0.1:6379/0",
    "redis://[::1]:6379/15": "redis://[::1]:6379/15",
    "redis://user@host/1": "redis://host/1",
    f"redis://:{PASSWORD}@host:1/0": "redis://host:1/0",
    f"rediss://user:{PASSWORD}@host:6380/2": "rediss://host:6380/2",
    f"rediss://user:p@{PASSWORD}@host:6380/2": "rediss://host:6380/2",
    f"rediss://:{PASSWORD}%2F%40%3A@host/0?ssl_cert_reqs=required": "rediss://host/0",
    f"rediss://:{PASSWORD}@host/0?ssl_ca_certs=/etc/ca.pem": "rediss://host/0",
}
"""What may be given, and how it is shown."""

REFUSED = [
    "",
    "host:6379",
    "http://{}@host",
    "unix:///run/redis.sock",
    "sentinel://:{}@host",
    "redis+socket://:{}@host",
    "redis://",
    "redis://:{}@",
    "redis://:{}@host:0/0",
    "redis://:{}@host:65536/0",
    "redis://:{}@host:abc/0",
    "redis://:{}@host:-1/0",
    "redis://:{}@host/zero",
    "redis://:{}@host/-1",
    "redis://:{}@host/0/1",
    "redis://:{}@host/0#{}",
    "redis://:{}@[::1/0",
    "redis://:{}@host:1;redis://:{}@other:1",
    "redis://:/{}@host/0",
    "redis://:#{}@host/0",
    "redis://:?{}@host/0",
    "redis://user:12/{}@host/0",
    "redis://:{}@host/0?db=3",
    "redis://host/0?password={}",
    "redis://:{}@host/0?ssl_ca_certs=/etc/ca.pem",
    "redis://:{}@host/0?ssl_cert_reqs=none",
    "rediss://:{}@host/0?ssl_cert_reqs=none",
    "rediss://:{}@host/0?ssl_cert_reqs=optional",
    "rediss://:{}@host/0?ssl_cert_reqs=",
    "rediss://:{}@host/0?ssl_cert_reqs=CERT_NONE",
    "rediss://:{}@host/0?ssl_check_hostname=false",
    "rediss://:{}@host/0?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=none",
    "rediss://:{}@host/0?SSL_CERT_REQS=none",
    "rediss://:{}@host/0?ssl_min_version=TLSv1",
]
"""What may not; a password stands where the braces are."""


@pytest.mark.parametrize(("url", "shown"), TAKEN.items())
def test_an_address_of_redis_is_taken_and_shown_without_who_logs_in(url, shown):
    """It stands in errors, which people paste into tickets."""
    broker = read_broker(url)
    assert broker.shown == shown
    assert PASSWORD not in f"{broker!r} {broker} {broker.tls}"


@pytest.mark.parametrize("url", REFUSED)
def test_anything_else_is_refused_without_being_repeated(url):
    """What is mistyped may be the password."""
    with pytest.raises(BadInput, match="--broker") as refused:
        read_broker(url.replace("{}", PASSWORD))
    said = f"{refused.value!r} {refused.value.__cause__!r}"
    assert PASSWORD not in said
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_password_with_a_question_mark_is_not_repeated_as_the_name_of_a_setting():
    """Up to the mark it may read as a port."""
    with pytest.raises(BadInput) as refused:
        read_broker(f"redis://user:4711?{PASSWORD}@host/0")
    assert PASSWORD not in str(refused.value)


@given(st.text(max_size=30), st.sampled_from(["redis://:", "rediss://user:", "redis://", "rediss:", ""]))
def test_whatever_is_given_is_taken_or_refused(text, before):
    """A traceback shows the address, with the password."""
    try:
        broker = read_broker(f"{before}{text}@host:1/0")
    except BadInput:
        return
    assert broker.shown.startswith(("redis://", "rediss://"))
    assert broker.shown.endswith("host:1/0")


def test_with_rediss_the_certificate_and_the_name_are_verified():
    """redis-py and kombu both have defaults that are weaker somewhere."""
    broker = read_broker("rediss://host/0?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem")
    assert broker.tls == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
        "ssl_ca_certs": "/ca.pem",
        "ssl_certfile": "/c.pem",
        "ssl_keyfile": "/k.pem",
    }
    assert broker.url == "rediss://host/0"
    assert read_broker("redis://host/0").tls is None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:1",
        "no-such-host.invalid",
        "ho st",
        f"{'b.' * 130}c",
        pytest.param("a" * 64),
        pytest.param("a..b"),
    ],
    ids=["nobody listens", "no such name", "a space", "a long name", "a long label", "an empty label"],
)
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_server_that_cannot_be_reached_is_named_without_its_password(scheme, host):
    """The message names the address, for it is the address that is wrong."""
    with pytest.raises(BadInput, match="does not answer") as refused:
        read_broker(f"{scheme}://user:{PASSWORD}@{host}/0").ping()
    assert f"--broker {scheme}://{host}/0" in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_a_certificate_file_that_is_not_there_is_a_server_that_cannot_be_reached(tmp_path):
    """A slip in a path must not end in a traceback."""
    with pytest.raises(BadInput, match="does not answer"):
        read_broker(f"rediss://:{PASSWORD}@127.0.0.1:1/0?ssl_ca_certs={tmp_path / 'none.pem'}").ping()


def test_the_settings_do_not_show_the_password_either():
    """They hold the same address."""
    options = resolve({"broker": f"redis://:{PASSWORD}@host/0"}, environment={})
    assert options.broker
    assert PASSWORD not in f"{options!r} {options}"


def test_a_broker_that_is_no_text_is_refused_without_being_repeated(tmp_path):
    """A list of two brokers is a slip that is easily made in a file."""
    config = tmp_path / "settings.toml"
    config.write_text(f'broker = ["redis://:{PASSWORD}@host/0"]')
    with pytest.raises(BadInput, match="broker") as refused:
        resolve({}, config, environment={})
    assert PASSWORD not in str(refused.value)
