"""What can be chosen when an emulator is started."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EmulatorSettings:
    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    job_seconds: float = 0.0
    """From create to end: PENDING for the first half, RUNNING for the second."""
    max_live_jobs: int = 100
    """Per API key, as the service counts per project."""
    storage: Path | None = None
    """None: a temporary directory, removed at exit."""
