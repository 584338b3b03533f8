"""How long runs would take, and what the service would refuse: the real rules on a virtual clock.

In: service limits, a distribution of job times, plans. Out: `Simulated`. No network, no disk, no sleeping; the same
scenario always gives the same outcome.
"""

from gemini_batch.simulate.fleet import Livelock, simulate
from gemini_batch.simulate.floor import floor_seconds, greedy_seconds
from gemini_batch.simulate.forecast import MEDIAN_HOURS, Forecast, forecast, forecast_in_words
from gemini_batch.simulate.scenario import Delays, JobTimes, Offered, Scenario, ServiceLimits, Simulated, drawn_plan

__all__ = [
    "MEDIAN_HOURS",
    "Delays",
    "Forecast",
    "JobTimes",
    "Livelock",
    "Offered",
    "Scenario",
    "ServiceLimits",
    "Simulated",
    "drawn_plan",
    "floor_seconds",
    "forecast",
    "forecast_in_words",
    "greedy_seconds",
    "simulate",
]
