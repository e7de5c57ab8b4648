"""Regret points: one per measurement of a scope."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from learner.regret import Regret
from learner.scope import Scope
from learner.store.models import LearnerState, RegretPoint


def add_regret(session: Session, scope: Scope, version: int, regret: Regret, now: datetime) -> None:
    """Record what was measured after a version; a point that is already there stays."""
    session.execute(
        postgresql.insert(RegretPoint)
        .values(
            tenant_id=scope.tenant_id,
            user_id=scope.user_key,
            version=version,
            feedback_count=regret.feedback_count,
            incurred_loss=regret.incurred_loss,
            best_loss=regret.best_loss,
            prior_loss=regret.prior_loss,
            uniform_loss=regret.uniform_loss,
            regret=regret.regret,
            bound=regret.bound,
            best_principals=list(regret.principals),
            best_theta=list(regret.best_theta),
            measured_at=now,
        )
        .on_conflict_do_nothing()
    )


def regret_series(session: Session, scope: Scope, limit: int) -> Sequence[RegretPoint]:
    """The newest points of a scope, oldest first."""
    newest = session.scalars(
        select(RegretPoint)
        .where(RegretPoint.tenant_id == scope.tenant_id, RegretPoint.user_id == scope.user_key)
        .order_by(RegretPoint.version.desc())
        .limit(limit)
    )
    return newest.all()[::-1]


def versions_learned_and_measured(session: Session, scope: Scope) -> tuple[int, int]:
    """The current version of a scope and the newest one whose regret is on record; 0 for none."""
    own = (LearnerState.tenant_id == scope.tenant_id, LearnerState.user_id == scope.user_key)
    learned = session.scalar(select(LearnerState.version).where(*own))
    points = regret_series(session, scope, 1)
    return learned or 0, points[0].version if points else 0
