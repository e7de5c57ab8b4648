"""What an operator's dashboard shows of tenants: aggregates, each from an index or from so many newest rows.

Nothing here reads more rows the longer a tenant lives, but for the count of votes in a time range, which scans one
narrow index.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, false, func, literal_column, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from learner.scope import WHOLE_TENANT
from learner.store.models import (
    UNLEARNED,
    Feedback,
    Generation,
    IncentivePoint,
    LearnerState,
    LearningFailure,
    ParameterVersion,
    RegretPoint,
    Tenant,
)

TENANTS_SHOWN = 500
NEWEST_VERSIONS = 200
GLANCE_ANSWERS = 200
NEWEST_ANSWERS = 2000
FAILURES_SHOWN = 20

# Literals, not parameters: a prepared statement with a parameter could not use a partial index.
_OF_TENANT: ColumnElement[str] = literal_column(f"'{WHOLE_TENANT}'")
_COUNTED = and_(Feedback.counted_value.is_not(None), Feedback.implied == false())
_UP = func.count().filter(Feedback.counted_value > 0)


@dataclass(frozen=True)
class TimeRange:
    """From `start` on, before `end`."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Votes:
    """Thumbs of people that count: neither retracted, nor lapsed, nor cast by default."""

    up: int = 0
    down: int = 0

    @property
    def total(self) -> int:
        """How many."""
        return self.up + self.down

    @property
    def approval(self) -> float | None:
        """Share of thumbs up; None without a thumb."""
        return self.up / self.total if self.total else None


@dataclass(frozen=True)
class MeasuredRegret:
    """Regret over so many thumbs, and its bound; nats."""

    thumbs: int
    regret: float
    bound: float


@dataclass(frozen=True)
class TenantGlance:
    """One tenant in a line.

    Attributes:
        users: users of whom something was learned.
        measured: over all users, the newest; None before the first.
        largest_gap: over the newest answers, payoff units.
        lag_seconds: how long the oldest unlearned vote has waited; 0 for none.
        delay_seconds: median time from a thumb to its published weights, over the newest learned thumbs.
    """

    tenant_id: str
    name: str
    users: int
    votes: Votes
    measured: MeasuredRegret | None
    largest_gap: float | None
    lag_seconds: float
    delay_seconds: float | None


@dataclass(frozen=True)
class Answers:
    """The newest answers of a time range.

    Attributes:
        gaps: largest certified gap of each, payoff units.
        solver_seconds: mean time that the solver took for a token of each.
    """

    count: int
    gaps: Sequence[float]
    solver_seconds: Sequence[float]


@dataclass(frozen=True)
class Health:
    """How learning goes for one tenant.

    Attributes:
        learned_at: when the newest parameter version was made; None before any learning.
    """

    unlearned: int
    lag_seconds: float
    learned_at: datetime | None
    failing: Sequence[LearningFailure]


def all_of_time(session: Session, tenant_id: str | None, now: datetime) -> TimeRange:
    """From the first answer, of a tenant or of all, to now; the last hour when there is none."""
    first = select(func.min(Generation.created_at))
    if tenant_id is not None:
        first = first.where(Generation.tenant_id == tenant_id)
    return TimeRange(session.scalar(first) or now - timedelta(hours=1), now)


def tenant_names(session: Session, tenant_id: str | None) -> dict[str, str]:
    """Names of all tenants in order, at most `TENANTS_SHOWN`, or of one, by id."""
    listed = select(Tenant.id, Tenant.name).order_by(Tenant.name).limit(TENANTS_SHOWN)
    if tenant_id is not None:
        listed = listed.where(Tenant.id == tenant_id)
    return {row.id: row.name for row in session.execute(listed)}


def tenant_glances(
    session: Session, names: Mapping[str, str], votes: Mapping[str, Votes], now: datetime
) -> list[TenantGlance]:
    """Tenants in the order of their names.

    Args:
        names, votes: by tenant; the votes are those of the time that is looked at.
    """
    shown = list(names)
    users = _users_of(session, shown)
    regrets, gaps = _regrets_of(session, shown), _gaps_of(session, shown)
    waiting, delays = _oldest_waiting(session, shown), median_delays(session, shown)
    return [
        TenantGlance(
            tenant_id=tenant_id,
            name=name,
            users=users.get(tenant_id, 0),
            votes=votes.get(tenant_id, Votes()),
            measured=regrets.get(tenant_id),
            largest_gap=gaps.get(tenant_id),
            lag_seconds=_age(waiting.get(tenant_id), now),
            delay_seconds=delays.get(tenant_id),
        )
        for tenant_id, name in names.items()
    ]


def votes_over_time(
    session: Session, tenant_ids: Collection[str], during: TimeRange, step: timedelta
) -> dict[str, list[tuple[datetime, Votes]]]:
    """Start and votes of each step of the range that has any, in order, by tenant.

    Step by step, so that the index that holds all of it is read: for one wide range the planner would read the table.
    """
    steps = func.generate_series(during.start, during.end, step).table_valued("start", name="steps").render_derived()
    start = steps.c.start
    counted = (
        select(_UP.label("up"), func.count().label("total"))
        .where(
            Feedback.tenant_id == Tenant.id,
            _COUNTED,
            Feedback.created_at >= start,
            Feedback.created_at < func.least(start + step, during.end),
        )
        .lateral()
    )
    rows = session.execute(
        select(Tenant.id, start, counted.c.up, counted.c.total)
        .select_from(Tenant)
        .join(steps, true())
        .join(counted, true())
        .where(Tenant.id.in_(tenant_ids), counted.c.total > 0)
        .order_by(Tenant.id, start)
    )
    found: dict[str, list[tuple[datetime, Votes]]] = {}
    for tenant_id, at, up, total in rows:
        found.setdefault(tenant_id, []).append((at, Votes(up, total - up)))
    return found


def newest_answers(session: Session, tenant_id: str, during: TimeRange) -> Answers:
    """The newest answers of a range, at most `NEWEST_ANSWERS`."""
    rows = session.execute(
        select(Generation.largest_gap, Generation.solver_seconds, Generation.completion_tokens)
        .where(Generation.tenant_id == tenant_id, *_during(Generation.created_at, during))
        .order_by(Generation.created_at.desc())
        .limit(NEWEST_ANSWERS)
    ).all()
    return Answers(
        len(rows),
        [row.largest_gap for row in rows if row.largest_gap is not None],
        [row.solver_seconds / max(row.completion_tokens, 1) for row in rows if row.solver_seconds is not None],
    )


def newest_incentives(session: Session, tenant_id: str) -> IncentivePoint | None:
    """How the principals' bidding went under the newest weights of a tenant for which it was worked out."""
    return session.scalar(
        select(IncentivePoint)
        .where(IncentivePoint.tenant_id == tenant_id, IncentivePoint.user_id == _OF_TENANT)
        .order_by(IncentivePoint.version.desc())
        .limit(1)
    )


def median_delays(session: Session, tenant_ids: Collection[str]) -> dict[str, float]:
    """Median seconds from a thumb to its published weights, over the newest learned thumbs of each tenant.

    Regret is measured right after publishing, so its clock says when the weights were out.
    """
    newest = (
        select(ParameterVersion.user_id, ParameterVersion.version, ParameterVersion.oldest_feedback_at)
        .where(ParameterVersion.tenant_id == Tenant.id)
        .order_by(ParameterVersion.learned_at.desc())
        .limit(NEWEST_VERSIONS)
        .lateral()
    )
    measured = and_(
        RegretPoint.tenant_id == Tenant.id,
        RegretPoint.user_id == newest.c.user_id,
        RegretPoint.version == newest.c.version,
    )
    seconds = func.extract("epoch", RegretPoint.measured_at - newest.c.oldest_feedback_at)
    rows = session.execute(
        select(Tenant.id, func.percentile_cont(0.5).within_group(seconds))
        .select_from(Tenant)
        .join(newest, true())
        .join(RegretPoint, measured)
        .where(Tenant.id.in_(tenant_ids), newest.c.oldest_feedback_at.is_not(None))
        .group_by(Tenant.id)
    )
    return {tenant_id: float(median) for tenant_id, median in rows}


def health(session: Session, tenant_id: str, now: datetime) -> Health:
    """Backlog and failures of a tenant."""
    unlearned, oldest = session.execute(
        select(func.count(), func.min(Feedback.updated_at)).where(Feedback.tenant_id == tenant_id, UNLEARNED)
    ).one()
    learned_at = session.scalar(
        select(ParameterVersion.learned_at)
        .where(ParameterVersion.tenant_id == tenant_id)
        .order_by(ParameterVersion.learned_at.desc())
        .limit(1)
    )
    failing = session.scalars(
        select(LearningFailure)
        .where(LearningFailure.tenant_id == tenant_id)
        .order_by(LearningFailure.attempts.desc(), LearningFailure.failed_at)
        .limit(FAILURES_SHOWN)
    ).all()
    return Health(unlearned, _age(oldest, now), learned_at, failing)


def _oldest_waiting(session: Session, tenant_ids: Collection[str]) -> dict[str, datetime]:
    rows = session.execute(
        select(Feedback.tenant_id, func.min(Feedback.updated_at))
        .where(Feedback.tenant_id.in_(tenant_ids), UNLEARNED)
        .group_by(Feedback.tenant_id)
    )
    return dict(rows.all())


def _users_of(session: Session, tenant_ids: Collection[str]) -> dict[str, int]:
    rows = session.execute(
        select(LearnerState.tenant_id, func.count())
        .where(LearnerState.tenant_id.in_(tenant_ids), LearnerState.user_id != _OF_TENANT)
        .group_by(LearnerState.tenant_id)
    )
    return dict(rows.all())


def _regrets_of(session: Session, tenant_ids: Collection[str]) -> dict[str, MeasuredRegret]:
    newest = (
        select(RegretPoint.feedback_count, RegretPoint.regret, RegretPoint.bound)
        .where(RegretPoint.tenant_id == Tenant.id, RegretPoint.user_id == _OF_TENANT)
        .order_by(RegretPoint.version.desc())
        .limit(1)
        .lateral()
    )
    rows = session.execute(
        select(Tenant.id, newest).select_from(Tenant).join(newest, true()).where(Tenant.id.in_(tenant_ids))
    )
    return {row.id: MeasuredRegret(row.feedback_count, row.regret, row.bound) for row in rows}


def _gaps_of(session: Session, tenant_ids: Collection[str]) -> dict[str, float]:
    newest = (
        select(Generation.largest_gap)
        .where(Generation.tenant_id == Tenant.id)
        .order_by(Generation.created_at.desc())
        .limit(GLANCE_ANSWERS)
        .lateral()
    )
    rows = session.execute(
        select(Tenant.id, func.max(newest.c.largest_gap))
        .select_from(Tenant)
        .join(newest, true())
        .where(Tenant.id.in_(tenant_ids))
        .group_by(Tenant.id)
    )
    return {tenant_id: gap for tenant_id, gap in rows if gap is not None}


def _during(column: InstrumentedAttribute[datetime], during: TimeRange) -> tuple[ColumnElement[bool], ...]:
    return (column >= during.start, column < during.end)


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max((now - since).total_seconds(), 0.0)
