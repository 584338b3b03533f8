"""What the package promises about itself: its names, what importing costs, and its effects."""

import importlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import gemini_batch
from gemini_batch import effects
from gemini_batch.effects import effect, observe

ROOT = Path(__file__).parents[2]


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


HEAVY = {"google.genai", "pyarrow", "PIL", "redis", "asyncio", "celery", "httpx2", "obstore", "starlette", "uvicorn"}


def test_the_command_imports_what_it_needs_when_it_needs_it():
    """Help, completion and a mistyped option come at once; Arrow, the SDK and Redis are for who uses them."""
    assert modules_after("import gemini_batch.cli").isdisjoint({*HEAVY, "gemini_batch.emulator.settings", "loky"})


def test_nothing_needs_numpy_or_pandas():
    """They are no dependencies, and tests run without them: Arrow would import both wherever they are."""
    assert modules_after("import gemini_batch.audit.walk, gemini_batch.runs").isdisjoint({"numpy", "pandas"})


def test_without_a_broker_redis_is_not_imported():
    """It brings asyncio along."""
    assert modules_after("import gemini_batch.runs, gemini_batch.inquiries").isdisjoint({"redis", "asyncio", "celery"})


def test_what_keeps_a_worker_running_is_small():
    """One of these stands beside each worker, for as long as that lives."""
    modules = modules_after("import gemini_batch.cli, gemini_batch.supervise, gemini_batch.ledger.probe")
    assert modules.isdisjoint(HEAVY)


def test_a_worker_imports_the_sdk_before_its_pool_is_forked():
    """Once for all its processes. An import begins no thread, which a fork would lose."""
    at_fork = """
import threading
from celery.signals import worker_init
import workers.life
worker_init.send(sender=None)
assert threading.active_count() == 1
"""
    modules = modules_after(at_fork)
    assert {"google.genai", "pyarrow", "redis"} <= modules
    assert "obstore" not in modules, "it hangs in a forked child"


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


# --- what is installed ------------------------------------------------------------------------------------------------


def test_the_wheel_is_tested_and_not_the_sources_beside_the_tests():
    """What `make test` says must hold for what users install; a developer's own pytest takes the sources."""
    import workers  # noqa: PLC0415

    packages = {Path(package.__file__).parents[1] for package in (gemini_batch, workers)}
    is_wheel = all(path.name == "site-packages" and path.is_relative_to(sys.prefix) for path in packages)
    assert is_wheel or (not os.environ.get("TEST_INSTALLED") and packages == {ROOT}), packages


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel and a source archive, made from the sources as they are."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True)
    return folder


def files_below(*names):
    found = (path for name in names for path in (ROOT / name).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in found if not {"__pycache__", ".hypothesis"} & {*path.parts}}


def test_the_wheel_holds_the_two_packages_with_their_types_and_tables_and_nothing_else(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        about = next(wheel.read(name) for name in wheel.namelist() if name.endswith("/METADATA"))
    assert names == files_below("gemini_batch", "workers") - {"workers/Dockerfile"}
    assert {"gemini_batch/py.typed", "gemini_batch/quota/limits.toml"} <= names
    words = message_from_string(about.decode())
    assert set(words.get_all("Provides-Extra")) == {"emulator", "pdf"}
    assert words["Description-Content-Type"] == "text/markdown"
    assert words.get_payload().strip() == (ROOT / "README.md").read_text().strip()


def test_the_source_archive_holds_all_that_its_tests_read(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive if not member.isdir()}
    assert files_below("gemini_batch", "workers", "tests", "benchmarks", "configs", "docs", ".ci") <= names
    alone = {
        "Makefile",
        "docker-compose.yml",
        ".dockerignore",
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
    }
    assert alone | {path.name for path in ROOT.glob("requirements*.lock")} <= names


def test_the_lock_names_every_extra_that_one_of_its_packages_asks_of_another():
    """pip takes `name[extra]` for another package than a pinned `name`, and refuses it once a newer release is out."""
    text = (ROOT / "requirements.lock").read_text()
    locked = {pin.name: pin for pin in map(Requirement, re.findall(r"^([^\s#]+==\S+)", text, re.MULTILINE))}
    asked = {
        (need.name, extra)
        for package, pin in locked.items()
        for need in installed_needs(package, pin.extras)
        for extra in need.extras
    }
    assert ("google-auth", "requests") in asked
    assert [(name, extra) for name, extra in sorted(asked) if extra not in locked[name].extras] == []


def installed_needs(package, extras):
    """What an installed package requires here, with these of its extras. Packages for other systems require nothing."""
    try:
        needs = [Requirement(line) for line in metadata.requires(package) or []]
    except metadata.PackageNotFoundError:
        return []
    return [need for need in needs if not need.marker or any(need.marker.evaluate({"extra": e}) for e in ["", *extras])]


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
