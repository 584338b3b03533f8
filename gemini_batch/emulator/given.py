"""Settings of the emulator as they were typed: flags over a file over defaults."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gemini_batch.emulator.faults import FaultSpec, read_flag
from gemini_batch.emulator.settings import EmulatorSettings, SettingsError, first_complaint, make_settings, read_file


def read_settings(typed: dict[str, Any], config: Path | None, faults: list[str]) -> EmulatorSettings:
    """Flag over file over default; faults of both.

    Raises:
        SettingsError: which flag or file is wrong, and why.
    """
    values = {} if config is None else _of_file(config)
    given = {name: value for name, value in typed.items() if value is not None}
    if "job_seconds" in given:
        values = {name: value for name, value in values.items() if name not in ("queue_seconds", "run_seconds")}
    if given.keys() & {"queue_seconds", "run_seconds"}:
        values.pop("job_seconds", None)
    settings = make_settings(values | given)
    armed = settings.faults + tuple(_fault(text) for text in faults)
    return settings.model_copy(update={"faults": armed})


def _of_file(config: Path) -> dict[str, Any]:
    """Right in itself, so that what is wrong later is a flag's."""
    values = read_file(config)
    try:
        make_settings(values)
    except SettingsError as error:
        raise SettingsError(f"{config}: {error}") from None
    return values


def _fault(text: str) -> FaultSpec:
    try:
        return read_flag(text)
    except ValidationError as error:
        raise SettingsError(f"--fault {text}: {first_complaint(error, list(FaultSpec.model_fields))}") from None
    except ValueError as error:
        raise SettingsError(f"--fault {text}: {error}") from None
