# Everything a fresh machine needs: Python >= 3.11 and this file. `.venv` comes from the committed, hashed lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OLD_CELERY := $(VENV)/celery56
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: demo test lint lock clean

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gemini-batch-dist needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(STAMP)  ## 10,000 prompts against the local emulator
	$(BIN)/gemini-batch-dist demo

# The older supported Celery, laid over the same environment: tests put it first in a worker's path.
$(OLD_CELERY)/.installed: $(STAMP) requirements-celery56.lock
	rm -rf $(OLD_CELERY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target $(OLD_CELERY) -r requirements-celery56.lock
	touch $@

test: $(STAMP) $(OLD_CELERY)/.installed  ## every test that needs no key
	$(BIN)/python -m pytest -m "not live" $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" --python-version 3.11

lock:  ## renew the lock files from pyproject.toml
	$(COMPILE) --all-extras --group dev -o requirements.lock pyproject.toml
	printf 'celery[redis]==5.6.*\nkombu<5.7\n' | $(COMPILE) -o requirements-celery56.lock -

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
