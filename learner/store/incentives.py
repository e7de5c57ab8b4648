"""Incentive points: one per version whose incentives were worked out."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from learner.incentives import Allocation
from learner.scope import Scope
from learner.store.models import IncentivePoint


def add_allocation(session: Session, scope: Scope, version: int, allocation: Allocation, now: datetime) -> None:
    """Record how the bidding went under a version; a point that is already there stays."""
    session.execute(
        postgresql.insert(IncentivePoint)
        .values(
            tenant_id=scope.tenant_id,
            user_id=scope.user_key,
            version=version,
            context_count=allocation.context_count,
            principals=list(allocation.principals),
            reserves=list(allocation.reserves),
            converged=allocation.converged,
            note=allocation.note,
            best_response_regret=list(allocation.best_response_regret),
            best_response_bound=list(allocation.best_response_bound),
            hedge_regret=list(allocation.hedge_regret),
            hedge_bound=list(allocation.hedge_bound),
            measured_at=now,
        )
        .on_conflict_do_nothing()
    )


def incentive_series(session: Session, scope: Scope, limit: int) -> Sequence[IncentivePoint]:
    """The newest points of a scope, oldest first."""
    newest = session.scalars(
        select(IncentivePoint)
        .where(IncentivePoint.tenant_id == scope.tenant_id, IncentivePoint.user_id == scope.user_key)
        .order_by(IncentivePoint.version.desc())
        .limit(limit)
    )
    return newest.all()[::-1]
