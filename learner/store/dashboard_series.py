"""A scope's past as so many points as a chart draws, and whose weights changed most lately."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Text, and_, cast, func, literal_column, select, tuple_
from sqlalchemy.orm import Session

from learner.scope import WHOLE_TENANT, Scope
from learner.store.dashboard import TimeRange
from learner.store.models import Feedback, Generation, ParameterVersion, RegretPoint
from learner.store.parameters import configured_parameters

RECENT_VERSIONS = 500
USERS_SHOWN = 12

_OF_TENANT: ColumnElement[str] = literal_column(f"'{WHOLE_TENANT}'")


@dataclass(frozen=True)
class WeightPoint:
    """The weights of one version."""

    version: int
    learned_at: datetime
    feedback_count: int
    weights: dict[str, float]


@dataclass(frozen=True)
class UserChange:
    """How far a user's weights moved lately.

    Attributes:
        before, after: weights at the begin and the end of the time looked at.
        change: share of the weight that went elsewhere (total variation), in [0, 1].
    """

    user_id: str
    versions: int
    feedback_count: int
    learned_at: datetime
    before: dict[str, float]
    after: dict[str, float]

    @property
    def change(self) -> float:
        """See above."""
        names = self.before.keys() | self.after.keys()
        return sum(abs(self.after.get(name, 0.0) - self.before.get(name, 0.0)) for name in names) / 2.0


@dataclass(frozen=True)
class ShownVote:
    """A vote with what an operator wants to know of its answer."""

    vote: Feedback
    mode: str
    principals: Sequence[str]
    features: Sequence[float]


def weights_over_time(session: Session, scope: Scope, during: TimeRange, points: int) -> list[WeightPoint]:
    """Versions of a scope, evenly spread over those of the range, at most `points`, oldest first.

    Versions count up by one, so that evenly spaced ones are found by their numbers alone.
    """
    own = ParameterVersion.tenant_id == scope.tenant_id, ParameterVersion.user_id == scope.user_key
    in_range = (*own, ParameterVersion.learned_at >= during.start, ParameterVersion.learned_at < during.end)
    first = session.scalar(
        select(ParameterVersion.version).where(*in_range).order_by(ParameterVersion.learned_at).limit(1)
    )
    last = session.scalar(
        select(ParameterVersion.version).where(*in_range).order_by(ParameterVersion.learned_at.desc()).limit(1)
    )
    if first is None or last is None:
        return []
    steps = min(points - 1, last - first) or 1
    wanted = sorted({first + (last - first) * step // steps for step in range(steps + 1)})
    rows = session.scalars(
        select(ParameterVersion).where(*own, ParameterVersion.version.in_(wanted)).order_by(ParameterVersion.version)
    )
    return [
        WeightPoint(row.version, row.learned_at, row.feedback_count, _named(row.principals, row.weights))
        for row in rows
    ]


def regret_over_time(session: Session, scope: Scope, during: TimeRange, points: int) -> Sequence[RegretPoint]:
    """Measurements of a scope in a range, at most the newest `points`, oldest first.

    They grow rarer as a history grows, so there are a few hundred in all.
    """
    own = RegretPoint.tenant_id == scope.tenant_id, RegretPoint.user_id == scope.user_key
    newest = session.scalars(
        select(RegretPoint)
        .where(*own, RegretPoint.measured_at >= during.start, RegretPoint.measured_at < during.end)
        .order_by(RegretPoint.version.desc())
        .limit(points)
    )
    return newest.all()[::-1]


def largest_changes(session: Session, tenant_id: str, during: TimeRange) -> list[UserChange]:
    """Users whose weights moved most over the newest versions of a range, the largest change first."""
    rows = session.execute(
        select(
            ParameterVersion.user_id,
            ParameterVersion.version,
            ParameterVersion.feedback_count,
            ParameterVersion.learned_at,
            ParameterVersion.principals,
            ParameterVersion.weights,
        )
        .where(
            ParameterVersion.tenant_id == tenant_id,
            ParameterVersion.user_id != _OF_TENANT,
            ParameterVersion.learned_at >= during.start,
            ParameterVersion.learned_at < during.end,
        )
        .order_by(ParameterVersion.learned_at.desc())
        .limit(RECENT_VERSIONS)
    ).all()
    newest = {row.user_id: row for row in reversed(rows)}
    oldest = {row.user_id: row.version for row in rows}
    before = _weights_of(session, tenant_id, [(user_id, version - 1) for user_id, version in oldest.items()])
    configured = configured_parameters(session, tenant_id)
    prior = _named(configured.principals, configured.weights)
    changes = [
        UserChange(
            user_id,
            row.version - oldest[user_id] + 1,
            row.feedback_count,
            row.learned_at,
            before.get(user_id, prior),
            _named(row.principals, row.weights),
        )
        for user_id, row in newest.items()
    ]
    return sorted(changes, key=lambda each: -each.change)[:USERS_SHOWN]


def votes_of_user(session: Session, scope: Scope, before: tuple[datetime, str] | None, limit: int) -> list[ShownVote]:
    """A page of a scope's votes, the newest first; those before a (time, id) that an earlier page ended with."""
    query = (
        select(Feedback, Generation.mode, Generation.principals, Generation.features)
        .join(Generation, Generation.id == Feedback.generation_id)
        .where(Feedback.tenant_id == scope.tenant_id, Feedback.user_id == scope.user_key)
        .order_by(Feedback.created_at.desc(), Feedback.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(tuple_(Feedback.created_at, Feedback.id) < tuple_(*before))
    return [ShownVote(*row) for row in session.execute(query)]


def _weights_of(session: Session, tenant_id: str, versions: Sequence[tuple[str, int]]) -> dict[str, dict[str, float]]:
    # An array of wanted rows: a list of thousands of conditions takes a second to plan.
    wanted = (
        func.unnest(
            cast([user_id for user_id, _ in versions], ARRAY(Text)),
            cast([version for _, version in versions], ARRAY(BigInteger)),
        )
        .table_valued("user_id", "version", name="wanted")
        .render_derived()
    )
    same = and_(ParameterVersion.user_id == wanted.c.user_id, ParameterVersion.version == wanted.c.version)
    rows = session.execute(
        select(ParameterVersion.user_id, ParameterVersion.principals, ParameterVersion.weights)
        .join(wanted, same)
        .where(ParameterVersion.tenant_id == tenant_id)
    )
    return {row.user_id: _named(row.principals, row.weights) for row in rows}


def _named(principals: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    return dict(zip(principals, weights, strict=True))
