"""What a replay reads: all scopes, and how much of each user is in its tenant."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import and_, select, union
from sqlalchemy.orm import Session

from learner.evidence import Evidence
from learner.scope import Scope
from learner.store.evidence import evidence_of
from learner.store.models import Feedback, LearnerState, TenantShare

ROWS_PER_FETCH = 500


@dataclass(frozen=True)
class SharedUser:
    """A user in its tenant's evidence; `up_to_date` when the share is of the user's current version."""

    user_id: str
    evidence: Evidence
    share: Evidence
    up_to_date: bool


def known_scopes(session: Session) -> list[Scope]:
    """Every scope that has votes or has learned, in order."""
    voted = select(Feedback.tenant_id, Feedback.user_id)
    learned = select(LearnerState.tenant_id, LearnerState.user_id)
    both = union(voted, learned).subquery()
    rows = session.execute(select(both.c.tenant_id, both.c.user_id).order_by(both.c.tenant_id, both.c.user_id))
    return [Scope.of_key(tenant_id, user_key) for tenant_id, user_key in rows]


def shared_users(session: Session, tenant_id: str) -> Iterator[SharedUser]:
    """The users that a tenant has taken over."""
    rows = session.execute(
        select(TenantShare, LearnerState)
        .join(
            LearnerState,
            and_(LearnerState.tenant_id == TenantShare.tenant_id, LearnerState.user_id == TenantShare.user_id),
        )
        .where(TenantShare.tenant_id == tenant_id)
        .execution_options(yield_per=ROWS_PER_FETCH)
    )
    for share, state in rows:
        up_to_date = state.shared_version == state.version
        yield SharedUser(share.user_id, evidence_of(state), evidence_of(share), up_to_date)
