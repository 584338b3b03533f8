"""What answered jobs used, by model and day, and what that costs by the published prices."""

import threading
from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter

from gemini_batch.emulator.jobs import Job
from gemini_batch.emulator.state import State
from gemini_batch.emulator.wire import Json
from gemini_batch.gemini.prices import batch_price


@dataclass(slots=True)
class _Used:
    model: str
    day: datetime
    """Prices change at a date: that of the job's create."""
    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0


_USED = TypeAdapter(_Used)


class Spending:
    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._used: dict[str, _Used] = {}
        for record in state.all("used"):
            used = _USED.validate_json(record)
            self._used[_name(used.model, used.day)] = used

    def clear(self) -> None:
        with self._lock:
            self._used.clear()

    def add(self, job: Job) -> None:
        day = job.created.replace(hour=0, minute=0, second=0, microsecond=0)
        name = _name(job.model, day)
        with self._lock:
            used = self._used.setdefault(name, _Used(job.model, day))
            used.requests += job.n_requests
            used.prompt_tokens += job.tally.prompt_tokens
            used.output_tokens += job.tally.output_tokens
            self._state.put("used", name, _USED.dump_json(used))

    def stats(self) -> Json:
        """`cost_usd` is None when a model without a known price was used."""
        with self._lock:
            used = list(self._used.values())
        by_model: dict[str, Json] = {}
        for one in used:
            shown = by_model.setdefault(
                one.model, {"requests": 0, "prompt_tokens": 0, "output_tokens": 0, "cost_usd": 0.0}
            )
            shown["requests"] += one.requests
            shown["prompt_tokens"] += one.prompt_tokens
            shown["output_tokens"] += one.output_tokens
            shown["cost_usd"] = _sum(shown["cost_usd"], _cost(one))
        total: float | None = 0.0
        for shown in by_model.values():
            total = _sum(total, shown["cost_usd"])
        return {"models": by_model, "cost_usd": total}


def _name(model: str, day: datetime) -> str:
    return f"{model} {day.date()}"


def _cost(used: _Used) -> float | None:
    price = batch_price(used.model, used.day)
    return None if price is None else float(price.cost_usd(used.prompt_tokens, used.output_tokens))


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second
