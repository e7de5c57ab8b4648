"""`/v1/dashboard`: what the operator's dashboard draws, aggregated here so that a page loads no more than it shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query
from sqlalchemy.orm import Session

from learner.scope import Scope
from learner.store import dashboard as figures
from learner.store import dashboard_series as series
from learner.store.models import Tenant
from learner.store.tenants import tenant_principals
from service.access.security import OperateCaller, UserOperateCaller
from service.dashboard import live
from service.dashboard.counts import VoteCountsDep, total
from service.dashboard.ranges import (
    GAP_EDGES,
    GAP_LABELS,
    SOLVER_EDGES,
    SOLVER_LABELS,
    From,
    Points,
    To,
    aligned,
    distribution,
    step_of,
    time_range,
)
from service.dashboard.schemas import (
    ChangeView,
    Configuration,
    GlanceView,
    HealthView,
    IncentivesView,
    RangeView,
    RegretPointView,
    ShownVoteView,
    TenantFigures,
    TenantPrincipal,
    TenantsView,
    UserView,
    VotesView,
    WeightPointView,
)
from service.dependencies import ServicesDep
from service.errors import InvalidBody
from service.sessions import SessionDep

router = APIRouter(prefix="/v1/dashboard", tags=["dashboard"])
router.include_router(live.router)

VOTES_A_PAGE = 25

UserPath = Annotated[str, Path(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Before = Annotated[
    str | None,
    Query(max_length=400, pattern=r"^[^\x00-\x1f\x7f]+$", description="`older_votes` of the page before."),
]


@router.get("/tenants", summary="Tenants at a glance")
def read_tenants(
    session: SessionDep, caller: OperateCaller, counts: VoteCountsDep, start: From = None, end: To = None
) -> TenantsView:
    """All tenants for an operator who names none; else the caller's own."""
    during, step, now = *_whole_steps(session, caller.tenant_id, start, end), datetime.now(UTC)
    names = figures.tenant_names(session, caller.tenant_id)
    votes = {each: total(steps) for each, steps in counts.over_time(session, names, during, step, now).items()}
    return TenantsView(
        range=RangeView.of(during),
        operator=caller.is_operator,
        data=[GlanceView.of(glance) for glance in figures.tenant_glances(session, names, votes, now)],
    )


@router.get("/tenant", summary="One tenant in figures and series")
def read_tenant(
    session: SessionDep,
    caller: UserOperateCaller,
    counts: VoteCountsDep,
    start: From = None,
    end: To = None,
    points: Points = 200,
) -> TenantFigures:
    """Weights, regret, votes, gaps, bidding, recent changes and the health of the learner."""
    during, step = _whole_steps(session, caller.tenant_id, start, end)
    steps = counts.over_time(session, [caller.tenant_id], during, step, datetime.now(UTC))[caller.tenant_id]
    return _tenant_view(session, caller.tenant, during, VotesView.of(step, steps), points)


@router.get("/users/{user_id:path}", summary="One user: weights, their past, votes")
def read_user(
    services: ServicesDep,
    session: SessionDep,
    caller: UserOperateCaller,
    user_id: UserPath,
    points: Points = 200,
    before: Before = None,
) -> UserView:
    """The weights are the decoder's own; votes come a page at a time, the newest first."""
    scope = Scope(caller.tenant_id, user_id)
    during = figures.TimeRange(datetime.fromtimestamp(0, UTC), datetime.now(UTC))
    # Before the session is used: a request that holds a connection waits for no second.
    parameters = services.parameters.get(scope)
    votes = series.votes_of_user(session, scope, _place(before), VOTES_A_PAGE)
    return UserView(
        user=user_id,
        weights=dict(zip(parameters.principals, parameters.weights, strict=True)),
        parameter_version=parameters.version,
        scope="tenant" if parameters.user_id is None else "user",
        thumbs=parameters.feedback_count if parameters.user_id is not None else 0,
        learned_at=parameters.learned_at if parameters.version else None,
        principals=[TenantPrincipal.of(each) for each in tenant_principals(session, caller.tenant_id)],
        history=[WeightPointView.of(point) for point in series.weights_over_time(session, scope, during, points)],
        regret=[RegretPointView.of(point) for point in series.regret_over_time(session, scope, during, points)],
        votes=[ShownVoteView.of(vote) for vote in votes],
        older_votes=_place_after(votes) if len(votes) == VOTES_A_PAGE else None,
    )


def _whole_steps(
    session: Session, tenant_id: str | None, start: datetime | None, end: datetime | None
) -> tuple[figures.TimeRange, timedelta]:
    """The range asked for, from a whole step of its own on, and that step."""
    during = time_range(session, tenant_id, start, end)
    step = step_of(during)
    return aligned(during, step), step


def _tenant_view(
    session: Session, tenant: Tenant, during: figures.TimeRange, votes: VotesView, points: int
) -> TenantFigures:
    now, scope = datetime.now(UTC), Scope(tenant.id)
    answers = figures.newest_answers(session, tenant.id, during)
    incentives = figures.newest_incentives(session, tenant.id)
    (glance,) = figures.tenant_glances(session, {tenant.id: tenant.name}, {tenant.id: votes.total}, now)
    return TenantFigures(
        range=RangeView.of(during),
        glance=GlanceView.of(glance),
        configuration=Configuration.of(tenant),
        principals=[TenantPrincipal.of(each) for each in tenant_principals(session, tenant.id)],
        weights=[WeightPointView.of(point) for point in series.weights_over_time(session, scope, during, points)],
        regret=[RegretPointView.of(point) for point in series.regret_over_time(session, scope, during, points)],
        votes=votes,
        answers=answers.count,
        gaps=distribution(answers.gaps, GAP_EDGES, GAP_LABELS),
        solver_seconds=distribution(answers.solver_seconds, SOLVER_EDGES, SOLVER_LABELS),
        incentives=None if incentives is None else IncentivesView.of(incentives),
        changes=[ChangeView.of(change) for change in series.largest_changes(session, tenant.id, during)],
        health=HealthView.of(figures.health(session, tenant.id, now)),
    )


def _place(before: str | None) -> tuple[datetime, str] | None:
    """The (time, id) that a page of votes ended with.

    Raises:
        InvalidBody: it is not of that form.
    """
    if before is None:
        return None
    at, _, feedback_id = before.partition(" ")
    try:
        return datetime.fromisoformat(at), feedback_id
    except ValueError:
        raise InvalidBody("'before' is what an earlier page gave as older_votes", "before") from None


def _place_after(votes: list[series.ShownVote]) -> str:
    last = votes[-1].vote
    return f"{last.created_at.isoformat()} {last.id}"
