"""What the package promises about itself: its names, what importing costs, and its effects."""

import importlib
import subprocess
import sys

import pytest

import gemini_batch
from gemini_batch import effects
from gemini_batch.effects import effect, observe


def modules_after(statement):
    """Names in sys.modules of a fresh process that ran the statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", gemini_batch.__all__)
def test_every_public_name_can_be_imported(name):
    assert getattr(gemini_batch, name) is not None


def test_all_is_the_truth():
    """What a star import gives is what the documentation may name."""
    assert sorted(gemini_batch.__all__) == gemini_batch.__all__
    assert set(gemini_batch.__all__) == {*gemini_batch._HOMES, "__version__"}
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = gemini_batch.no_such_name


def test_importing_the_package_imports_neither_the_sdk_nor_arrow():
    """A process that only wants the version should not wait a second."""
    assert modules_after("import gemini_batch").isdisjoint({"google.genai", "pyarrow", "PIL", "pydantic"})


@pytest.mark.parametrize("module", ["jobs.encode", "jobs.parse"])
def test_what_runs_in_the_cpu_pool_imports_neither_the_sdk_nor_obstore(module):
    """obstore hangs in forked children, and the SDK costs each process memory and a second."""
    assert modules_after(f"import gemini_batch.{module}").isdisjoint({"google.genai", "obstore", "httpx", "celery"})


@pytest.mark.parametrize("module", ["config", "records", "status", "coordinator.start", "jobs.advance", "solo", "runs"])
def test_only_the_client_imports_the_sdk(module):
    """One file imports the SDK, so that a new major touches one file."""
    assert "google.genai" not in modules_after(f"import gemini_batch.{module}")


def test_the_deciders_touch_neither_disk_nor_network():
    """Planning, lifecycle and alignment are decided purely."""
    for module in ("coordinator.plan", "jobs.lifecycle", "quota.desk"):
        assert modules_after(f"import gemini_batch.{module}").isdisjoint({"pyarrow", "google.genai", "httpx", "PIL"})
    assert modules_after("import gemini_batch.jobs.align").isdisjoint({"pyarrow.fs", "google.genai", "httpx", "PIL"})


# --- effects ----------------------------------------------------------------------------------------------------------


@effect("test.double")
def double(number, *, fail=False):
    """Doubles."""
    if fail:
        raise ValueError("no")
    return 2 * number


@pytest.fixture
def seen():
    found = []
    observe(lambda point, when: found.append((point, when)))
    yield found
    observe(None)


def test_a_hook_sees_an_effect_before_and_after(seen):
    assert double(2) == 4
    assert seen == [("test.double", "before"), ("test.double", "after")]
    observe(None)
    assert double(3) == 6
    assert len(seen) == 2


def test_an_effect_that_fails_is_not_announced_as_done(seen):
    with pytest.raises(ValueError, match="no"):
        double(1, fail=True)
    assert seen == [("test.double", "before")]


def test_a_hook_may_end_the_call_before_the_effect(seen):
    """That is where crash tests die."""

    def crash(point, when):
        raise KeyboardInterrupt

    observe(crash)
    with pytest.raises(KeyboardInterrupt):
        double(1)


def test_an_effect_keeps_its_name_and_is_listed():
    assert (double.__name__, double.__doc__) == ("double", "Doubles.")
    assert "test.double" in effects.POINTS


def test_every_effect_of_the_store_and_the_service_is_a_point():
    """A crash test walks over this list; an effect that is missing is never tested."""
    importlib.import_module("gemini_batch.gemini.client")
    importlib.import_module("gemini_batch.ledger.posix")
    assert {
        "store.create", "store.read", "store.publish", "store.delete", "remote.upload", "remote.create_job",
        "remote.get_job", "remote.list_jobs", "remote.get_file", "remote.delete_file", "remote.list_files",
        "remote.download",
    } <= effects.POINTS  # fmt: skip
