# Everything a fresh machine needs: Python >= 3.11 and this file. `.venv` comes from the committed, hashed lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OLDER := $(VENV)/celery56/.installed $(VENV)/genai2/.installed
WHEEL := $(VENV)/wheel
PACKAGES = $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
TESTED := PYTHONSAFEPATH=1 TEST_INSTALLED=1 $(WHEEL)/bin/python -m pytest
# Compiled once, and not in each of thousands of processes.
unexport PYTHONDONTWRITEBYTECODE
# More processes than cores: most tests wait for a server half of their time.
PYTEST_ARGS ?= -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo screenshots test wheel docs chaos lint lock clean

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gemini-batch-dist needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(STAMP)  ## 10,000 prompts against the local emulator
	$(BIN)/gemini-batch-dist demo

screenshots: $(STAMP)  ## draw docs/img anew, from real commands against the local emulator
	$(BIN)/python docs/screenshots.py

# Older supported versions, Celery's and the SDK's, each laid over the same environment: tests put one first in a path.
$(OLDER): $(VENV)/%/.installed: $(STAMP) requirements-%.lock
	rm -rf $(@D)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target $(@D) -r requirements-$*.lock
	touch $@

# What users install, built anew each time, over the packages of $(VENV), whose own install is developers': editable.
wheel: $(STAMP) $(OLDER)
	rm -rf dist $(WHEEL)
	$(BIN)/hatchling build
	$(BIN)/python -m venv --without-pip $(WHEEL)
	echo '$(abspath $(PACKAGES))' > "$$($(WHEEL)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/over.pth"
	$(BIN)/python -m pip --python $(WHEEL)/bin/python install --quiet --disable-pip-version-check --no-index --no-deps \
		--ignore-installed dist/*.whl
	ln -s $(patsubst $(VENV)/%/.installed,../%,$(OLDER)) $(WHEEL)

test: wheel  ## every test that needs no key, of the wheel
	$(TESTED) -m "not live" $(PYTEST_ARGS)

docs: $(STAMP)  ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

FLEET_DEATHS := $(TESTED) tests/acceptance/test_fleet_deaths.py -k deaths_at_random

chaos: wheel  ## at length, an hour: every order of events, death at every effect, fleets in which everything dies
	$(WHEEL)/bin/python tests/model/model.py --only wait --workers 3 --crashes 3 --cuts 1
	$(WHEEL)/bin/python tests/model/model.py --only 'show in time' --crashes 3 --cuts 1 --refusals 1 --total 3
	CRASH_PAIRS=kinds $(TESTED) $(PYTEST_ARGS) tests/crash
	CHAOS_HISTORIES=500 CHAOS_RACES=500 CHAOS_SEEDS=50 CHAOS_MANIFESTS=1000 CHAOS_MUTATIONS=1000 $(TESTED) \
		$(PYTEST_ARGS) $(addprefix tests/unit/test_,any_history.py races.py damaged_results.py fuzzed_manifests.py start.py)
	CHAOS_KILLS=50 $(TESTED) tests/acceptance/test_hundred_thousand_rows.py -k kills
	CHAOS_ROWS=100000 CHAOS_EVENTS=100 $(FLEET_DEATHS)
	CHAOS_ONLY='Redis dies' CHAOS_PAUSE=5-40 CHAOS_EVENTS=27 CHAOS_JOB_SECONDS=25 $(FLEET_DEATHS)
	CHAOS_ONLY='forgets' CHAOS_PAUSE=10-10 CHAOS_EVENTS=12 CHAOS_JOB_SECONDS=5 $(FLEET_DEATHS)
	CHAOS_ONLY='death of( a process of)?$$' CHAOS_PAUSE=1-3 CHAOS_EVENTS=200 CHAOS_JOB_SECONDS=20 $(FLEET_DEATHS)

bench: $(STAMP)  ## measure everything on the emulator, write docs/performance.md; BENCH='--only peers' for other clients
	$(BIN)/python benchmarks/run.py $(BENCH)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Extras stay in the pins: pip takes `name[extra]` for another package than a pinned `name`, and looks for its newest.
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-strip-extras --custom-compile-command "make lock" --python-version 3.11

lock:  ## renew the lock files from pyproject.toml
	$(COMPILE) --all-extras --group dev -o requirements.lock pyproject.toml
	printf 'celery[redis]==5.6.*\nkombu<5.7\n' | $(COMPILE) -o requirements-celery56.lock -
	printf 'google-genai==2.21.*\n' | $(COMPILE) -o requirements-genai2.lock -

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache
