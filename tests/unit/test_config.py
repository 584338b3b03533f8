"""Settings: flag > environment > TOML > default, every mistake named, and the key never shown."""

import warnings
from pathlib import Path

import pytest
from google.genai import types

from gemini_batch.config import GOOGLE, Options, resolve, resolve_account
from gemini_batch.errors import BadInput
from gemini_batch.records import Limits, RunRecord


def toml(folder, text):
    path = folder / "settings.toml"
    path.write_text(text)
    return path


# --- precedence -------------------------------------------------------------------------------------------------------


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(tmp_path):
    path = toml(tmp_path, "max_live_jobs = 3")
    env = {"GEMINI_BATCH_MAX_LIVE_JOBS": "5"}
    assert resolve({"max_live_jobs": 7}, path, env).max_live_jobs == 7
    assert resolve({"max_live_jobs": None}, path, env).max_live_jobs == 5
    assert resolve({}, path, {}).max_live_jobs == 3
    assert resolve({}, None, {}).max_live_jobs == 100


@pytest.mark.parametrize("name", [field.alias or name for name, field in Options.model_fields.items()])
def test_every_option_can_be_given_in_the_environment(name):
    """One rule: GEMINI_BATCH_ and the option in capitals; the broker's says that it is a URL."""
    field = next(known for known in Options.model_fields if known in (name, f"{name}_"))
    words = {
        "media": "inline", "on_unknown": "wait", "thinking_level": "low", "media_resolution": "MEDIA_RESOLUTION_LOW",
        "fresh": "1", "max_bytes_per_shard": "2000", "validate": "model",
        "schema_field": "responseJsonSchema", "stuck": "cancel", "price": "0.1,0.4",
        "log_level": "debug", "log_format": "json", "safety_settings": "HARASSMENT=OFF",
    }  # fmt: skip
    variable = "GEMINI_BATCH_BROKER_URL" if name == "broker" else f"GEMINI_BATCH_{name.upper()}"
    found = resolve({}, None, {variable: words.get(name, "1")})
    assert found.model_fields_set == {field}


def test_the_defaults_are_the_contracts():
    found = resolve({}, None, {})
    assert (found.model, found.max_requests_per_shard, found.max_live_jobs) == ("gemini-2.5-flash", 10_000, 100)
    assert (found.settle, found.on_unknown, found.media, found.runs) == (3600, "resubmit", "auto", "./runs")


def test_what_was_not_given_does_not_change_the_limits_of_a_run():
    """A resume without options must not silently put the defaults back."""
    assert resolve({"max_live_jobs": 9}, None, {"GEMINI_BATCH_SETTLE": "7"}).given_limits() == {
        "max_live_jobs": 9,
        "settle": 7.0,
    }


def test_a_tier_is_a_number_or_a_word(tmp_path):
    """In TOML and in the library a number is a number; the flag wins over the environment over the file."""
    path = toml(tmp_path, "tier = 2")
    assert resolve({}, path, {}).tier == "2"
    assert resolve({}, path, {"GEMINI_BATCH_TIER": "3"}).tier == "3"
    assert resolve({"tier": 1}, path, {"GEMINI_BATCH_TIER": "3"}).tier == "1"
    assert resolve({"tier": "free"}, None, {}).tier == "free"
    assert resolve({}, None, {}).tier is None


def test_stop_sequences_may_be_one_or_many(tmp_path):
    assert resolve({"stop_sequence": "END"}, None, {}).stop_sequence == ("END",)
    assert resolve({"stop_sequence": ["a", "b"]}, None, {}).stop_sequence == ("a", "b")
    assert resolve({}, toml(tmp_path, 'stop_sequence = ["a"]'), {}).stop_sequence == ("a",)


@pytest.mark.parametrize(
    "given",
    [
        "HARASSMENT=block_none,HARM_CATEGORY_HATE_SPEECH=OFF",
        ["harassment = BLOCK_NONE", "HATE_SPEECH=OFF"],
        {"HARM_CATEGORY_HARASSMENT": "BLOCK_NONE", "HATE_SPEECH": "OFF"},
        [{"category": "HARASSMENT", "threshold": "BLOCK_NONE"}, {"category": "HATE_SPEECH", "threshold": "OFF"}],
        [types.SafetySetting(category=f"HARM_CATEGORY_{name}", threshold=level)
         for name, level in (("HARASSMENT", "BLOCK_NONE"), ("HATE_SPEECH", "OFF"))],
    ],
)  # fmt: skip
def test_safety_settings_may_be_texts_mappings_or_the_sdks(given):
    expected = ("HARM_CATEGORY_HARASSMENT=BLOCK_NONE", "HARM_CATEGORY_HATE_SPEECH=OFF")
    assert resolve({"safety_settings": given}, None, {}).safety_settings == expected


@pytest.mark.parametrize("given", ["HARASSMENT", "=OFF", "A=B=C", ["A=1"], [{"category": "A"}]])
def test_a_safety_setting_of_another_form_is_refused(given):
    with pytest.raises(BadInput, match="CATEGORY=THRESHOLD is due"):
        resolve({"safety_settings": given}, None, {})


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_refused_with_its_nearest_name(tmp_path):
    with pytest.raises(BadInput, match=r"max_live_job'.*settings\.toml|settings\.toml.*max_live_job'") as caught:
        resolve({}, toml(tmp_path, "max_live_job = 3"), {})
    assert "did you mean 'max_live_jobs'" in str(caught.value)
    with pytest.raises(BadInput, match="did you mean 'model'"):
        resolve({"modell": "x"}, None, {})
    with pytest.raises(BadInput, match="zzz"):
        resolve({"zzz": 1}, None, {})


def test_a_mistake_in_a_file_is_told_with_its_line(tmp_path):
    text = """model = "gemini-2.5-pro"  # max_live_jobs = 1

    "max_live_jobs" = "many"
    """
    with pytest.raises(BadInput, match=r"max_live_jobs in .*settings\.toml, line 3: .*\(got 'many'\)"):
        resolve({}, toml(tmp_path, text), {})
    with pytest.raises(BadInput, match=r"settings\.toml, line 2: unknown key 'tiers'"):
        resolve({}, toml(tmp_path, "model = 'm'\ntiers = 2"), {})


def test_every_value_that_cannot_be_used_is_told_at_once(tmp_path):
    path = toml(tmp_path, "max_live_jobs = 0\nkeep = [1, 2]")
    with pytest.raises(BadInput) as caught:
        resolve({"temperature": "9"}, path, {"GEMINI_BATCH_TIER": "9"})
    told = str(caught.value).splitlines()
    assert told[0] == "4 settings cannot be used:"
    assert [line.split(":")[0].strip() for line in told[1:]] == [
        f"keep in {path}, line 2", f"max_live_jobs in {path}, line 1", "--temperature", "tier in GEMINI_BATCH_TIER",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["max_live_jobs", "temperature", "max_cost", "tier", "allow_failed", "model", "keep"])
def test_true_is_not_taken_for_a_number_or_a_word(tmp_path, name):
    """`max_live_jobs = true` would be 1."""
    with pytest.raises(BadInput, match="true or false is for switches"):
        resolve({}, toml(tmp_path, f"{name} = true"), {})


def test_an_unknown_variable_is_warned_of_with_the_nearest_name():
    """It may be meant for another release, and other programs share the environment."""
    with pytest.warns(UserWarning, match="GEMINI_BATCH_MAX_LIVE_JOB is no setting.*GEMINI_BATCH_MAX_LIVE_JOBS'"):
        assert resolve({}, None, {"GEMINI_BATCH_MAX_LIVE_JOB": "3"}).max_live_jobs == 100
    with pytest.warns(UserWarning, match="did you mean 'GEMINI_BATCH_BROKER_URL'") as told:
        resolve({}, None, {"GEMINI_BATCH_BROKER": "redis://u:secret@h/0"})
    assert "secret" not in str(told[0].message)


def test_variables_of_other_programs_and_of_single_calls_are_not_warned_of():
    resolve({}, None, {"GEMINI_API_KEY": "k", "GEMINI_BATCH_JSON": "1", "GEMINI_BATCH_SUPERVISOR": "1"})


def test_an_empty_variable_is_one_that_is_not_set(tmp_path):
    """Compose files and shells leave them so."""
    path = toml(tmp_path, "max_live_jobs = 3")
    assert resolve({}, path, {"GEMINI_BATCH_MAX_LIVE_JOBS": "", "GEMINI_BATCH_PROJECT": ""}).max_live_jobs == 3


def test_the_settings_file_may_be_named_by_the_environment_and_a_flag_names_another(tmp_path):
    path, other = toml(tmp_path, "max_live_jobs = 3"), tmp_path / "other.toml"
    other.write_text("max_live_jobs = 4")
    assert resolve({}, None, {"GEMINI_BATCH_CONFIG": str(path)}).max_live_jobs == 3
    assert resolve({}, other, {"GEMINI_BATCH_CONFIG": str(path)}).max_live_jobs == 4


def test_a_table_in_the_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match="limits"):
        resolve({}, toml(tmp_path, "[limits]\nmax_live_jobs = 3"), {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "2.1"), ("temperature", "-1"), ("temperature", "nan"), ("temperature", "warm"),
        ("top_p", "1.1"), ("top_k", "0"), ("seed", str(2**31)), ("max_output_tokens", "0"), ("max_live_jobs", "0"),
        ("max_live_jobs", "1.5"), ("max_requests_per_shard", "-1"), ("max_bytes_per_shard", "2000000001"),
        ("max_tokens_per_shard", "0"), ("poll_interval", "0"), ("poll_interval", "nan"), ("poll_interval", "inf"),
        ("settle", "-1"), ("settle", "inf"), ("settle", "nan"), ("settle", "1e300"), ("on_unknown", "maybe"),
        ("media", "both"), ("model", ""), ("model", "a b"), ("model", "a\n"), ("allow_failed", "5%%"),
        ("allow_failed", "-1"), ("thinking_level", "huge"), ("media_resolution", "HIGH"), ("fresh", "perhaps"),
        ("stop_sequence", list("abcdef")), ("tier", "4"), ("tier", "paid"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_the_name_that_was_used(tmp_path, name, value):
    """An infinite time cannot be written to run.json, and an hour more than a calendar holds is a crash later."""
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(BadInput) as caught:
        resolve({name: value}, None, {})
    assert flag in str(caught.value)
    if isinstance(value, str) and value:
        with pytest.raises(BadInput) as caught:
            resolve({}, None, {f"GEMINI_BATCH_{name.upper()}": value})
        assert f"GEMINI_BATCH_{name.upper()}" in str(caught.value)


def test_a_value_out_of_range_in_the_file_is_refused_with_the_file(tmp_path):
    with pytest.raises(BadInput, match=r"max_live_jobs.*settings\.toml"):
        resolve({}, toml(tmp_path, "max_live_jobs = 0"), {})


@pytest.mark.parametrize("body", [b"=", b"\xff", b"a = "])
def test_a_file_that_is_not_toml_is_refused(tmp_path, body):
    (tmp_path / "settings.toml").write_bytes(body)
    with pytest.raises(BadInput, match=r"settings\.toml"):
        resolve({}, tmp_path / "settings.toml", {})


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"absent\.toml"):
        resolve({}, tmp_path / "absent.toml", {})


def test_whatever_is_accepted_survives_the_run_record():
    """Limits are written to run.json and read back by every worker."""
    found = resolve({"settle": "0", "poll_interval": "0.1", "max_tokens_per_shard": str(10**15)}, None, {}).limits()
    assert Limits.model_validate_json(found.model_dump_json()) == found
    assert RunRecord.model_config["frozen"]


@pytest.mark.parametrize(
    ("given", "rows", "allowed"),
    [("0", 100, 0), ("0.5%", 1000, 5), ("7", 10, 7), ("100%", 3, 3), (5, 100, 5)],
)
def test_allowed_failures_are_a_number_or_a_share(given, rows, allowed):
    """In TOML and in the library a number is a number."""
    assert resolve({"allow_failed": given}, None, {}).allowed_failures(rows) == pytest.approx(allowed)


# --- accounts ---------------------------------------------------------------------------------------------------------


def test_gemini_api_key_comes_before_google_api_key_and_a_difference_is_told():
    both = {"GEMINI_API_KEY": "one", "GOOGLE_API_KEY": "two"}
    with pytest.warns(UserWarning, match="differ") as told:
        assert resolve_account(None, both).key == "one"
    assert all(secret not in str(entry.message) for entry in told for secret in ("one,", "two"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_account(None, {"GEMINI_API_KEY": "one", "GOOGLE_API_KEY": "one"}).key == "one"
        assert resolve_account(None, {"GEMINI_API_KEY": "", "GOOGLE_API_KEY": "two"}).key == "two"


def test_google_needs_a_key_and_loopback_does_not():
    with pytest.raises(BadInput, match="GEMINI_API_KEY"):
        resolve_account(None, {})
    assert resolve_account(None, {}, key_needed=False).endpoint == GOOGLE
    for url in (
        "http://127.0.0.1:8765",
        "http://localhost:1/",
        "http://[::1]:1",
        "http://LOCALHOST",
        "http://127.9.9.9",
    ):
        account = resolve_account(None, {"GOOGLE_GEMINI_BASE_URL": url})
        assert (account.is_loopback, account.endpoint) == (True, url.rstrip("/"))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1.example.com", "http://localhost.example.com", "http://10.0.0.1", "https://example.com"]
)
def test_a_name_that_only_looks_like_loopback_needs_a_key(url):
    with pytest.raises(BadInput, match="GEMINI_API_KEY"):
        resolve_account(None, {"GOOGLE_GEMINI_BASE_URL": url})


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:80", "http://[::1", "file:///etc", "http://"])
def test_a_base_url_that_is_none_is_refused(url):
    with pytest.raises(BadInput, match="GOOGLE_GEMINI_BASE_URL"):
        resolve_account(None, {"GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": "k"})


@pytest.mark.parametrize("key", ["…", "abc\n", "a key", "\u201cabc\u201d"])
def test_a_key_that_no_header_could_hold_is_refused_before_anything_is_sent(key):
    with pytest.raises(BadInput, match="holds a character"):
        resolve_account(None, {"GEMINI_API_KEY": key})


def test_the_key_never_shows_and_jobs_are_known_by_project_or_by_its_hash():
    """repr ends up in tracebacks and logs."""
    account = resolve_account(None, {"GEMINI_API_KEY": "AIza-very-secret"})
    assert "secret" not in repr(account) + str(account) + account.project
    assert account.project != resolve_account(None, {"GEMINI_API_KEY": "other"}).project
    named = [resolve_account("mine", {"GEMINI_API_KEY": key}).project for key in ("one", "two")]
    assert named == ["mine", "mine"]


def test_a_password_in_the_base_url_reaches_no_run_file():
    """The endpoint is written to run.json, status and messages."""
    env = {"GOOGLE_GEMINI_BASE_URL": "https://user:hunter2@proxy.example", "GEMINI_API_KEY": "k"}
    try:
        assert "hunter2" not in resolve_account(None, env).endpoint
    except BadInput as error:
        assert "hunter2" not in str(error)


CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
NOT_OURS = ("emulator.toml", "limits.toml")
"""Other settings, with tests beside those of docs/emulator.md, and the service's limits (test_tiers.py)."""


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.name not in NOT_OURS], ids=lambda path: path.name)
def test_every_config_of_the_repository_loads(path):
    """An example that is refused teaches nothing."""
    assert resolve({}, path, {}).model
