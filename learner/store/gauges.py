"""What monitoring asks every few seconds: each answer from an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from learner.scope import WHOLE_TENANT
from learner.status import FAILING
from learner.store.failures import failing_count
from learner.store.models import UNLEARNED, Feedback, RegretPoint, Tenant


@dataclass(frozen=True)
class Backlog:
    """What waits to be learned.

    Attributes:
        lag_seconds: how long the oldest unlearned vote of a scope that does not fail has waited; 0 for none.
    """

    unlearned_votes: int
    lag_seconds: float
    failing_scopes: int


@dataclass(frozen=True)
class TenantRegret:
    """A tenant's newest regret point: regret of its own weights over its votes, and the bound; nats."""

    tenant_id: str
    feedback_count: int
    regret: float
    bound: float


def backlog(session: Session, now: datetime) -> Backlog:
    """The learner's backlog over all tenants."""
    unlearned = session.scalar(select(func.count()).select_from(Feedback).where(UNLEARNED)) or 0
    oldest = session.scalar(select(func.min(Feedback.updated_at)).where(UNLEARNED, ~FAILING))
    lag_seconds = 0.0 if oldest is None else max((now - oldest).total_seconds(), 0.0)
    return Backlog(unlearned, lag_seconds, failing_count(session))


def newest_regrets(session: Session, limit: int) -> Sequence[TenantRegret]:
    """The newest regret point of each tenant; of the tenants that were measured last, if there are more."""
    newest = (
        select(RegretPoint)
        .where(RegretPoint.tenant_id == Tenant.id, RegretPoint.user_id == WHOLE_TENANT)
        .order_by(RegretPoint.version.desc())
        .limit(1)
        .lateral()
    )
    rows = session.execute(
        select(Tenant.id, newest.c.feedback_count, newest.c.regret, newest.c.bound)
        .join(newest, Tenant.id == newest.c.tenant_id)
        .order_by(newest.c.measured_at.desc(), Tenant.id)
        .limit(limit)
    )
    return [TenantRegret(*row) for row in rows]
