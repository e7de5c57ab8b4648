"""How much of each user is in its tenant's evidence."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Text, and_, cast, delete, func, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, aliased

from learner.evidence import Evidence
from learner.scope import WHOLE_TENANT, Scope
from learner.store.evidence import evidence_columns, evidence_of
from learner.store.learning import UNSHARED
from learner.store.models import AnonymousEvidence, LearnerState, TenantShare

NEVER_SHARED = 0


@dataclass(frozen=True)
class UnsharedUser:
    """A user who learned since the tenant last took over.

    Attributes:
        version: of the user's evidence.
        share: what the tenant's evidence holds of the user.
    """

    user_id: str
    version: int
    evidence: Evidence
    share: Evidence


def unshared_users(session: Session, tenant_id: str, limit: int) -> list[UnsharedUser]:
    """Users to take over, locked; those who are learning at this moment are left for the next time."""
    rows = session.execute(
        select(LearnerState, TenantShare)
        .outerjoin(TenantShare, _same_user())
        .where(LearnerState.tenant_id == tenant_id, UNSHARED)
        .order_by(LearnerState.user_id)
        .limit(limit)
        .with_for_update(of=LearnerState, skip_locked=True)
    )
    return [
        UnsharedUser(
            state.user_id,
            state.version,
            evidence_of(state),
            Evidence.none() if share is None else evidence_of(share),
        )
        for state, share in rows
    ]


def save_shares(session: Session, tenant_id: str, users: Sequence[UnsharedUser], shares: Sequence[Evidence]) -> None:
    """Record what the tenant's evidence now holds of these users."""
    insertion = postgresql.insert(TenantShare)
    columns = evidence_columns(Evidence.none())
    session.execute(
        insertion.on_conflict_do_update(
            index_elements=[TenantShare.tenant_id, TenantShare.user_id],
            set_={name: insertion.excluded[name] for name in columns},
        ),
        [
            {"tenant_id": tenant_id, "user_id": user.user_id, **evidence_columns(share)}
            for user, share in zip(users, shares, strict=True)
        ],
    )
    taken = (
        func.unnest(
            cast([user.user_id for user in users], ARRAY(Text)),
            cast([user.version for user in users], ARRAY(BigInteger)),
        )
        .table_valued("user_id", "version", name="taken")
        .render_derived()
    )
    session.execute(
        update(LearnerState)
        .where(LearnerState.tenant_id == tenant_id, LearnerState.user_id == taken.c.user_id)
        .values(shared_version=taken.c.version)
        .execution_options(synchronize_session=False)
    )


def anonymous_evidence(session: Session, tenant_id: str) -> Evidence:
    """What a tenant's votes without a user say, before the cap."""
    row = session.get(AnonymousEvidence, tenant_id)
    return Evidence.none() if row is None else evidence_of(row)


def save_anonymous_evidence(session: Session, tenant_id: str, evidence: Evidence) -> None:
    """Record what a tenant's votes without a user say."""
    columns = evidence_columns(evidence)
    session.execute(
        postgresql.insert(AnonymousEvidence)
        .values(tenant_id=tenant_id, **columns)
        .on_conflict_do_update(index_elements=[AnonymousEvidence.tenant_id], set_=columns)
    )


def share_of(session: Session, scope: Scope) -> Evidence:
    """What the tenant's evidence holds of a user."""
    row = session.get(TenantShare, (scope.tenant_id, scope.user_key))
    return Evidence.none() if row is None else evidence_of(row)


def forget_shares(session: Session, tenant_id: str) -> None:
    """Let every user of a tenant, and its votes without a user, wait to be taken over again."""
    session.execute(delete(AnonymousEvidence).where(AnonymousEvidence.tenant_id == tenant_id))
    session.execute(delete(TenantShare).where(TenantShare.tenant_id == tenant_id))
    session.execute(
        update(LearnerState)
        .where(LearnerState.tenant_id == tenant_id, LearnerState.user_id != WHOLE_TENANT)
        .values(shared_version=NEVER_SHARED)
        .execution_options(synchronize_session=False)
    )


def evidence_of_others(session: Session, scope: Scope) -> Evidence:
    """The tenant's evidence without the part that came from this user."""
    tenant = aliased(LearnerState)
    row = session.execute(
        select(tenant, TenantShare)
        .outerjoin(
            TenantShare,
            and_(TenantShare.tenant_id == scope.tenant_id, TenantShare.user_id == scope.user_key),
        )
        .where(tenant.tenant_id == scope.tenant_id, tenant.user_id == WHOLE_TENANT)
    ).one_or_none()
    if row is None:
        return Evidence.none()
    state, share = row
    return evidence_of(state) if share is None else evidence_of(state) - evidence_of(share)


def _same_user() -> ColumnElement[bool]:
    return and_(TenantShare.tenant_id == LearnerState.tenant_id, TenantShare.user_id == LearnerState.user_id)
