"""Time ranges that are asked for, steps that divide them, and bins that figures are counted in."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime, BaseModel, Field
from sqlalchemy.orm import Session

from learner.store.dashboard import TimeRange, all_of_time
from service.errors import InvalidBody

From = Annotated[AwareDatetime | None, Query(alias="from", description="Start; left out, the first answer.")]
To = Annotated[AwareDatetime | None, Query(alias="to", description="End; left out, now.")]
Points = Annotated[int, Query(ge=2, le=300, description="Points of a series, at most.")]

EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Nothing is on record outside of this, and calendars end somewhere."""
MOST_STEPS = 60
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEPS_SECONDS = (
    *(1, 2, 5, 10, 20, 30, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 6 * _HOUR, 12 * _HOUR, _DAY, 2 * _DAY, 7 * _DAY, 14 * _DAY, 28 * _DAY),
)

_GAP_EXPONENTS = tuple(range(-16, 0, 2))
GAP_EDGES = tuple(10.0**exponent for exponent in _GAP_EXPONENTS)
GAP_LABELS = (f"<1e{_GAP_EXPONENTS[0]}", *(f"1e{exponent}" for exponent in _GAP_EXPONENTS))
SOLVER_EDGES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3)
SOLVER_LABELS = ("<10 µs", *(f"{edge * 1e6:g} µs" for edge in SOLVER_EDGES))


class Bin(BaseModel):
    """So many figures from this one on, up to the next bin's."""

    label: str
    count: int


class Distribution(BaseModel):
    """How figures spread over bins."""

    figures: int = Field(description="How many figures there are; 0 where none was recorded.")
    median: float | None
    largest: float | None
    bins: list[Bin]


def time_range(session: Session, tenant_id: str | None, start: datetime | None, end: datetime | None) -> TimeRange:
    """The range that is asked for; without a start, since the first answer.

    Raises:
        InvalidBody: it ends before it starts, or is not of this age.
    """
    if any(not EARLIEST <= moment <= LATEST for moment in (start, end) if moment is not None):
        raise InvalidBody(f"'from' and 'to' are years from {EARLIEST.year} to {LATEST.year}", "from")
    found = all_of_time(session, tenant_id, end or datetime.now(UTC)) if start is None else None
    asked = found or TimeRange(start or datetime.now(UTC), end or datetime.now(UTC))
    if asked.start >= asked.end:
        raise InvalidBody("the range ends before it starts; 'from' must come before 'to'", "from")
    return asked


def step_of(during: TimeRange) -> timedelta:
    """A round step that divides a range into at most `MOST_STEPS` parts."""
    seconds = (during.end - during.start).total_seconds()
    fitting = (step for step in _STEPS_SECONDS if seconds / step <= MOST_STEPS)
    return timedelta(seconds=next(fitting, math.ceil(seconds / MOST_STEPS / _DAY) * _DAY))


def aligned(during: TimeRange, step: timedelta) -> TimeRange:
    """The range from a whole step on, counted from midnight of 2000."""
    origin = datetime(2000, 1, 1, tzinfo=UTC)
    return TimeRange(during.start - (during.start - origin) % step, during.end)


def distribution(figures: Sequence[float], edges: Sequence[float], labels: Sequence[str]) -> Distribution:
    """Count figures into the bins that edges part; there is one label more than edges."""
    counts = [0] * len(labels)
    for figure in figures:
        counts[bisect.bisect_right(edges, figure)] += 1
    return Distribution(
        figures=len(figures),
        median=statistics.median(figures) if figures else None,
        largest=max(figures, default=None),
        bins=[Bin(label=label, count=count) for label, count in zip(labels, counts, strict=True)],
    )
