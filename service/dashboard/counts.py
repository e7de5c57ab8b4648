"""Votes by step of time, counted once for all who look at once: what is long past changes seldom."""

from __future__ import annotations

import threading
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Annotated

from cachetools import TTLCache
from fastapi import Depends, Request
from sqlalchemy.orm import Session

from learner.store.dashboard import TimeRange, Votes, votes_over_time

SETTLED_AFTER = timedelta(hours=1)
KEPT_SECONDS = 10.0
KEPT_TENANTS = 2000

Steps = list[tuple[datetime, Votes]]


class VoteCounts:
    """Counts of an API process; safe to share between threads.

    Steps that ended an hour ago are counted anew every ten seconds, newer ones each time: a fresh thumb shows at once,
    and a million old ones cost nothing but once in a while.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settled: TTLCache[tuple[str, datetime, datetime, timedelta], Steps] = TTLCache(KEPT_TENANTS, KEPT_SECONDS)

    def over_time(
        self, session: Session, tenant_ids: Collection[str], during: TimeRange, step: timedelta, now: datetime
    ) -> dict[str, Steps]:
        """Start and votes of each step that has any, in order, by tenant; the range starts with a whole step."""
        whole_steps = max((min(now, during.end) - SETTLED_AFTER - during.start) // step, 0)
        settled = TimeRange(during.start, during.start + whole_steps * step)
        recent = votes_over_time(session, tenant_ids, TimeRange(settled.end, during.end), step)
        old = self._settled_steps(session, tenant_ids, settled, step)
        return {each: old.get(each, []) + recent.get(each, []) for each in tenant_ids}

    def _settled_steps(
        self, session: Session, tenant_ids: Collection[str], during: TimeRange, step: timedelta
    ) -> dict[str, Steps]:
        if during.start == during.end:
            return {}
        keys = {each: (each, during.start, during.end, step) for each in tenant_ids}
        with self._lock:
            known = {each: self._settled[key] for each, key in keys.items() if key in self._settled}
        missing = [each for each in tenant_ids if each not in known]
        if not missing:
            return known
        counted = votes_over_time(session, missing, during, step)
        with self._lock:
            for each in missing:
                self._settled[keys[each]] = counted.get(each, [])
        return {**known, **counted}


def total(steps: Steps) -> Votes:
    """All votes of some steps."""
    return Votes(sum(votes.up for _, votes in steps), sum(votes.down for _, votes in steps))


def get_vote_counts(request: Request) -> VoteCounts:
    """The process's counts."""
    counts: VoteCounts = request.app.state.vote_counts
    return counts


VoteCountsDep = Annotated[VoteCounts, Depends(get_vote_counts)]
