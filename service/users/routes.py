"""`/v1/users`: what is stored and learned of a user; resetting, exporting and erasing it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from learner.erasing import erase_user
from learner.exporting import export_user
from learner.learning import learn
from learner.parameters import Parameters
from learner.publishing import Notice
from learner.scope import Scope
from learner.store.feedback import expire_votes
from learner.store.identifiers import new_id
from learner.store.models import ParameterVersion
from learner.store.regret import regret_series
from learner.store.users import list_users, user_counts, versions, votes_of_versions
from service.access.auditing import audit
from service.access.idempotency import Idempotent
from service.access.security import ReadCaller, UserOperateCaller
from service.chat.schemas import UserId
from service.dependencies import ServicesDep
from service.sessions import SessionDep
from service.users.exports import Export, ExportPlace
from service.users.forgetting import clear_user, put_to_use, tell_everyone
from service.users.schemas import (
    ErasureProof,
    RegretView,
    ResetReport,
    UserHistory,
    Users,
    UserState,
    UserSummary,
    VersionView,
    WeightsView,
)

router = APIRouter(prefix="/v1/users", tags=["users"])

_LARGEST_VERSION = 2**63 - 1

# Ids may hold slashes; so the routes with something after the id come before those that end with it.
UserPath = Annotated[str, Path(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


@router.get("", summary="All users")
def read_users(
    session: SessionDep,
    caller: ReadCaller,
    after: Annotated[UserId | None, Query(description="Only users after this one.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Users:
    """Everyone with an answer or a vote, by id."""
    found = list_users(session, caller.tenant_id, after=after, limit=limit)
    return Users(
        data=[UserSummary.of(counts) for counts in found],
        next_after=found[-1].user_id if len(found) == limit else None,
    )


@router.get("/{user_id:path}/weights", summary="A user's weights and their regret")
def read_weights(services: ServicesDep, session: SessionDep, caller: ReadCaller, user_id: UserPath) -> WeightsView:
    """Answered from the decoder's own parameters: what is shown is what the next answer uses."""
    scope = Scope(caller.tenant_id, user_id)
    return _weights(session, scope, services.parameters.get(scope))


@router.get("/{user_id:path}/history", summary="How a user's weights came about")
def read_history(
    session: SessionDep,
    caller: ReadCaller,
    user_id: UserPath,
    before: Annotated[int | None, Query(ge=1, le=_LARGEST_VERSION)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> UserHistory:
    """Every version of the weights: when it was made, and from which votes."""
    scope = Scope(caller.tenant_id, user_id)
    found = versions(session, scope, before=before, limit=limit)
    votes = votes_of_versions(session, scope, [version.version for version in found])
    return UserHistory(
        user=user_id,
        data=[_version(version, votes[version.version]) for version in found],
        next_before=found[-1].version if len(found) == limit else None,
    )


@router.get(
    "/{user_id:path}/export",
    summary="Everything that is stored of a user",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
)
def read_export(services: ServicesDep, caller: ReadCaller, user_id: UserPath, place: ExportPlace) -> StreamingResponse:
    """Answers, words, votes, weights and regret, as one JSON document that is sent piece by piece."""
    return Export(export_user(services.database, Scope(caller.tenant_id, user_id), datetime.now(UTC)))


@router.post("/{user_id:path}/reset", summary="Forget what was learned of a user", dependencies=[Idempotent])
def reset_user(services: ServicesDep, caller: UserOperateCaller, request: Request, user_id: UserPath) -> ResetReport:
    """The user's thumbs count no more, and its weights are those of a new user; answers and thumbs stay on record."""
    scope, receipt, now = Scope(caller.tenant_id, user_id), new_id("reset"), datetime.now(UTC)
    with services.database.session(caller.tenant_id) as session:
        forgotten = expire_votes(session, scope, now)
        audit(session, caller, request, "user.reset", receipt, {"forgotten_votes": forgotten})
    outcome = learn(services.database, scope, services.settings, now)
    if outcome is not None:
        put_to_use(services, outcome.parameters)
    parameters = services.parameters.get(scope)
    with services.database.session(caller.tenant_id) as session:
        return ResetReport(receipt=receipt, forgotten_votes=forgotten, weights=_weights(session, scope, parameters))


@router.get("/{user_id:path}", summary="One user")
def read_user(services: ServicesDep, session: SessionDep, caller: ReadCaller, user_id: UserPath) -> UserState:
    """What is stored of it, and the weights in use."""
    scope = Scope(caller.tenant_id, user_id)
    parameters = services.parameters.get(scope)
    counts = UserSummary.of(user_counts(session, scope))
    return UserState(**counts.model_dump(), weights=_weights(session, scope, parameters))


@router.delete("/{user_id:path}", summary="Erase a user", dependencies=[Idempotent])
def erase(services: ServicesDep, caller: UserOperateCaller, request: Request, user_id: UserPath) -> ErasureProof:
    """Everything of the user goes, and with it what others said of its answers and its part of the tenant's weights.

    Those are afterwards, bit for bit, what the remaining votes give. It is done whole or not at all, and may be
    repeated. What the user does from now on is a new user's; an answer that is being made now is not kept.
    """
    scope, receipt, now = Scope(caller.tenant_id, user_id), new_id("erasure"), datetime.now(UTC)
    with services.database.session(caller.tenant_id) as session:
        erased = erase_user(session, scope, services.settings, now)
        proof = {
            "deleted": dict(erased.deleted),
            "refolded_scopes": len(erased.refolded),
            "tenant_parameter_version_before": erased.tenant_version_before,
            "tenant_parameter_version_after": erased.tenant_version_after,
        }
        audit(session, caller, request, "user.erase", receipt, proof)
        # Before the commit: answers that are being made wait for it, and must know then that they are not wanted.
        tell_everyone(services, Notice("forgotten", scope.tenant_id, scope.user_id))
    cleared = clear_user(services, erased)
    return ErasureProof.model_validate({**proof, "receipt": receipt, "erased_at": now, "cleared": dict(cleared)})


def _weights(session: Session, scope: Scope, parameters: Parameters) -> WeightsView:
    """Parameters are looked up before the session is used: a request that holds a connection waits for no second."""
    points = regret_series(session, scope, 1)
    return WeightsView(
        user=scope.user_key,
        weights=dict(zip(parameters.principals, parameters.weights, strict=True)),
        parameter_version=parameters.version,
        scope="tenant" if parameters.user_id is None else "user",
        feedback_count=parameters.feedback_count,
        learned_at=parameters.learned_at if parameters.version else None,
        regret=RegretView(
            feedback_count=points[0].feedback_count,
            measured=points[0].regret,
            bound=points[0].bound,
            against_prior=points[0].prior_loss - points[0].incurred_loss,
        )
        if points
        else None,
    )


def _version(version: ParameterVersion, feedback_ids: list[str]) -> VersionView:
    return VersionView(
        parameter_version=version.version,
        learned_at=version.learned_at,
        weights=dict(zip(version.principals, version.weights, strict=True)),
        feedback_count=version.feedback_count,
        feedback_ids=feedback_ids,
        reserves=None if version.reserves is None else dict(zip(version.principals, version.reserves, strict=True)),
    )
