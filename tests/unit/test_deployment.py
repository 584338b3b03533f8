"""What people copy: the Compose file, the image, the configurations and the guide say what the code understands."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from gemini_batch.cli import app
from gemini_batch.config import OF_WORKERS, Options, option_name, resolve
from gemini_batch.given import find_settings, variable

ROOT = Path(__file__).parents[2]
COMPOSE, IMAGE, GUIDE = ROOT / "docker-compose.yml", ROOT / "workers" / "Dockerfile", ROOT / "docs" / "operations.md"
LIMITS = ROOT / "docs" / "money-and-limits.md"
PRODUCTION = ROOT / "configs" / "production.toml"
CONFIGS = (PRODUCTION, ROOT / "configs" / "compose.toml", ROOT / "configs" / "local.toml")
VARIABLES = {variable(option_name(field)) for field in Options.model_fields}
SECRETS = {"GEMINI_API_KEY", "GOOGLE_API_KEY"}


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load(COMPOSE.read_text())["services"]


@pytest.fixture(scope="module")
def instructions():
    """The image's instructions in order: (word, rest)."""
    text = re.sub(r"^#.*\n", "", IMAGE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


# --- docker-compose.yml -----------------------------------------------------------------------------------------------


def test_without_a_profile_there_are_a_server_and_workers(services):
    always = {name for name, service in services.items() if "profiles" not in service}
    assert always == {"valkey", "worker"}
    assert {tuple(service["profiles"]) for name, service in services.items() if name not in always} == {("emulator",)}


def test_no_port_is_open_to_other_machines(services):
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert all(str(port).startswith("127.0.0.1:") for port in ports)
    assert not any(service.get("network_mode") == "host" for service in services.values())


def test_the_file_holds_no_secret(services):
    """Keys pass through from the shell; a value here would end up in a repository."""
    for service in services.values():
        given = service.get("environment", {})
        assert all(given[name] is None for name in SECRETS & given.keys())
        assert "@" not in given.get("GEMINI_BATCH_BROKER_URL", "")
    assert services["worker"]["environment"].keys() >= SECRETS


def test_a_trial_with_the_emulator_cannot_reach_the_service(services):
    given = services["emulator-worker"]["environment"]
    assert given["GOOGLE_GEMINI_BASE_URL"] == "http://127.0.0.1:8765"
    assert services["emulator-worker"]["network_mode"] == "service:emulator"
    assert services["emulator"]["command"] == ["emulator", "--port", "8765"]
    assert not SECRETS & given.keys()


def test_trials_share_neither_broker_database_nor_runs_with_work_that_costs(services):
    real, trial = services["worker"], services["emulator-worker"]
    key = "GEMINI_BATCH_BROKER_URL"
    assert real["environment"][key] != trial["environment"][key]
    assert runs_volume(real) != runs_volume(trial)


def runs_volume(service):
    place = service["environment"]["GEMINI_BATCH_RUNS"]
    (volume,) = [source for source, target, *_ in map(split_mount, service["volumes"]) if target == place]
    return volume


def split_mount(mount):
    return re.fullmatch(r"(\$\{.*?\}|[^:]*):([^:]*)(?::(.*))?", mount).groups() if ":" in mount else (None, mount)


def test_volumes_that_are_named_exist_and_folders_of_the_host_are_read_only(services):
    named = yaml.safe_load(COMPOSE.read_text())["volumes"].keys()
    for service in services.values():
        for source, _, *mode in map(split_mount, service.get("volumes", ())):
            assert source is None or source in named or mode == ["ro"]


def test_no_container_can_write_to_its_image_or_gain_rights(services):
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_workers_wait_for_the_server_and_get_time_to_finish(services):
    for name in ("worker", "emulator-worker"):
        assert services[name]["depends_on"]["valkey"]["condition"] == "service_healthy"
        assert "stop_grace_period" in services[name]
    assert "healthcheck" in services["valkey"]


def test_the_server_evicts_nothing(services):
    command = services["valkey"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert re.fullmatch(r"valkey/valkey:\d+\.\d+-alpine", services["valkey"]["image"])


def test_containers_get_commands_that_exist_and_configurations_that_load(services):
    for service in services.values():
        if service["image"] != "gemini-batch-dist":
            continue
        name, *arguments = service["command"]
        assert {word for word in arguments if word.startswith("-")} <= flags_of(name)
        if "--config" in arguments:
            config = arguments[arguments.index("--config") + 1]
            assert resolve({}, ROOT / config.lstrip("/"), {})
            assert "./configs:/configs:ro" in service["volumes"]


# --- the image --------------------------------------------------------------------------------------------------------


def test_signals_reach_the_command(instructions):
    """A shell in between would keep SIGTERM to itself, and every stop would be a kill."""
    last = dict(instructions)
    assert json.loads(last["ENTRYPOINT"]) == ["gemini-batch-dist"]
    assert json.loads(last["CMD"]) == ["worker"]


def test_the_image_does_not_run_as_root(instructions):
    """By number, which Kubernetes can check."""
    user, group = dict(instructions)["USER"].split(":")
    assert int(user) > 0 and int(group) > 0
    created = next(rest for word, rest in reversed(instructions) if word == "RUN")
    assert f"--uid {user}" in created and f"--gid {group}" in created


def test_everything_from_the_network_is_checked_against_the_lock(instructions):
    steps = [step.strip() for word, rest in instructions if word == "RUN" for step in rest.split("&&")]
    fetching = [step for step in steps if step.startswith("pip")]
    assert [step for step in fetching if "--require-hashes" not in step and "--no-index" not in step] == []


def test_bases_are_pinned_and_the_same(instructions):
    bases = {rest.split()[0] for word, rest in instructions if word == "FROM"}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", bases.pop())


def test_only_what_the_image_copies_is_sent_to_the_builder(instructions):
    """So no key in a .env, no run and no history can get into a layer."""
    first, *rest = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in {"", "#"}]
    sent = {line[1:] for line in rest if line.startswith("!")}
    copies = [rest.split()[:-1] for word, rest in instructions if word == "COPY" and "--from" not in rest]
    assert (first, sent) == ("*", set().union(*copies))


# --- the guide --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [COMPOSE, IMAGE, GUIDE, LIMITS, *CONFIGS], ids=lambda path: path.name)
def test_every_variable_is_that_of_an_option(path):
    assert set(re.findall(r"GEMINI_BATCH_[A-Z_]+", path.read_text())) <= VARIABLES


def flags_of(name):
    command = typer.main.get_command(app).commands[name]
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


def test_the_guide_stays_readable_at_three_in_the_morning():
    assert len(GUIDE.read_text().splitlines()) <= 200


def test_the_pod_of_the_guide_runs_the_image(instructions):
    (block,) = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    pod = yaml.safe_load(block)["spec"]
    (container,) = pod["containers"]
    user, group = dict(instructions)["USER"].split(":")
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (int(user), int(group))
    assert {word for word in container["args"] if word.startswith("-")} <= flags_of("worker")
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


# --- configurations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_key_of_a_configuration_is_explained(path):
    keys = [line for line in path.read_text().splitlines() if re.match(r"(# )?[a-z_]+ = ", line)]
    assert keys
    assert [line for line in keys if " # " not in line.removeprefix("# ")] == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_loads_with_its_examples(path):
    """What is commented out is there to be used."""
    text = re.sub(r"^# ([a-z_]+ = )", r"\1", path.read_text(), flags=re.MULTILINE)
    keys = re.findall(r"^([a-z_]+) = ", text, re.MULTILINE)
    given = find_settings({}, path, {}, {option_name(field) for field in Options.model_fields})
    assert given.keys() <= set(keys) <= {option_name(field) for field in Options.model_fields}
    assert resolve(tomllib.loads(text), None, {})


def test_the_configuration_of_a_fleet_says_all_that_workers_take():
    assert resolve({}, PRODUCTION, {}).model_fields_set >= OF_WORKERS


def test_no_configuration_holds_a_password():
    for path in CONFIGS:
        assert not re.search(r"://[^\s\"]*@", path.read_text())
