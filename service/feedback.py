"""`POST /v1/feedback`, and looking at, changing or retracting a vote."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from learner.store.feedback import VoteReceipt, get_feedback, record_vote, retract_vote
from learner.store.generations import get_generation
from learner.store.models import Feedback
from service.access.idempotency import Idempotent
from service.access.security import FeedbackCaller, TenantCaller, VoteCaller
from service.chat.schemas import UserId
from service.dependencies import ServicesDep
from service.services import Services
from service.sessions import SessionDep

router = APIRouter(prefix="/v1/feedback", tags=["feedback"])

_VALUES: dict[object, int] = {"up": 1, "down": -1, 1: 1, -1: -1, False: -1}  # True equals 1
_NAMES = {1: "up", -1: "down"}
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
Comment = Annotated[str, StringConstraints(max_length=4000, pattern=r"^[^\x00]*$")]


FeedbackId = Annotated[str, Path(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Vote(BaseModel):
    """A thumb."""

    model_config = ConfigDict(extra="forbid")

    value: int = Field(
        description='"up" or "down"; also 1, -1, true, false.',
        json_schema_extra={"anyOf": [{"enum": ["up", "down"]}, {"enum": [1, -1]}, {"type": "boolean"}], "type": None},
    )
    comment: Comment | None = None
    tags: Annotated[list[Tag], Field(max_length=16)] = []

    @field_validator("value", mode="before")
    @classmethod
    def _is_a_thumb(cls, value: Any) -> int:
        if not isinstance(value, str | int | float) or value not in _VALUES:
            raise ValueError('must be "up" or "down" (also 1, -1, true, false)')
        return _VALUES[value]


class NewFeedback(Vote):
    """`POST /v1/feedback`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"inference_id": "chatcmpl-…", "value": "up"}]},
    )

    inference_id: UserId = Field(description="`id` of the answer.")
    user: UserId | None = Field(default=None, description="Who votes; left out, the user the answer was made for.")


class Receipt(BaseModel):
    """What became of a vote; it is learned within a second."""

    feedback_id: str
    duplicate: bool = Field(description="Whether the same vote had been given already; then nothing changed.")


class FeedbackView(BaseModel):
    """A vote as it stands."""

    feedback_id: str
    inference_id: str
    user: str | None
    value: Literal["up", "down"] | None = Field(description="null when retracted.")
    comment: str | None
    tags: list[str]
    created_at: datetime
    updated_at: datetime
    learned: bool = Field(description="Whether the weights reflect this vote as it stands.")


@router.post("", status_code=201, summary="Vote on an answer", dependencies=[Idempotent])
def create_feedback(
    services: ServicesDep, caller: VoteCaller, request: Request, body: NewFeedback, response: Response
) -> Receipt:
    """One vote per answer and user: the same again changes nothing, another value replaces it."""
    voter = body.user if body.user is not None else _user_of(services, caller, body.inference_id)
    services.limits.admit(request, caller, voter)
    receipt = _record(services, caller, body, body.inference_id, body.user)
    request.state.end_user = receipt.scope.user_id
    if receipt.duplicate:
        response.status_code = 200
    return Receipt(feedback_id=receipt.feedback_id, duplicate=receipt.duplicate)


@router.get("/{feedback_id}", summary="A vote as it stands")
def read_feedback(session: SessionDep, caller: FeedbackCaller, feedback_id: FeedbackId) -> FeedbackView:
    """One vote of this tenant's users."""
    return _view(get_feedback(session, caller.tenant_id, feedback_id))


@router.put("/{feedback_id}", summary="Change a vote", dependencies=[Idempotent])
def change_feedback(
    services: ServicesDep, caller: VoteCaller, request: Request, feedback_id: FeedbackId, body: Vote
) -> FeedbackView:
    """Give the vote another value; its old effect on the weights is taken back."""
    with services.database.session(caller.tenant_id) as session:
        before = get_feedback(session, caller.tenant_id, feedback_id)
    services.limits.admit(request, caller, before.user_id or None)
    request.state.end_user = before.user_id or None
    _record(services, caller, body, before.generation_id, before.user_id or None)
    with services.database.session(caller.tenant_id) as session:
        return _view(get_feedback(session, caller.tenant_id, feedback_id))


@router.delete("/{feedback_id}", summary="Retract a vote", dependencies=[Idempotent])
def retract_feedback(
    services: ServicesDep, caller: VoteCaller, request: Request, feedback_id: FeedbackId
) -> FeedbackView:
    """Take the vote back, and with it its effect on the weights."""
    with services.database.session(caller.tenant_id) as session:
        voter = get_feedback(session, caller.tenant_id, feedback_id).user_id or None
        services.limits.admit(request, caller, voter)
        receipt = retract_vote(session, caller.tenant_id, feedback_id, datetime.now(UTC))
        session.expire_all()
        view = _view(get_feedback(session, caller.tenant_id, feedback_id))
    request.state.end_user = voter
    if not receipt.duplicate:
        services.announcer.announce(receipt.scope)
    return view


def _user_of(services: Services, caller: TenantCaller, generation_id: str) -> str | None:
    """The user that an answer was made for, where that matters to the limits."""
    if not services.limits.counts_users(caller.tenant):
        return None
    with services.database.session(caller.tenant_id) as session:
        generation = get_generation(session, caller.tenant_id, generation_id)
        return None if generation is None else generation.user_id


def _record(
    services: Services, caller: TenantCaller, vote: Vote, generation_id: str, user_id: str | None
) -> VoteReceipt:
    """Commit a vote, then send for a worker: in that order, so that the worker finds it."""
    with services.database.session(caller.tenant_id) as session:
        receipt = record_vote(
            session,
            tenant_id=caller.tenant_id,
            generation_id=generation_id,
            user_id=user_id,
            value=vote.value,
            comment=vote.comment,
            tags=vote.tags,
            now=datetime.now(UTC),
        )
    if not receipt.duplicate:
        services.metrics.feedback.labels(_NAMES[vote.value]).inc()
        services.announcer.announce(receipt.scope)
    return receipt


def _view(row: Feedback) -> FeedbackView:
    return FeedbackView(
        feedback_id=row.id,
        inference_id=row.generation_id,
        user=row.user_id or None,
        value=None if row.value is None else ("up" if row.value > 0 else "down"),
        comment=row.comment,
        tags=row.tags,
        created_at=row.created_at,
        updated_at=row.updated_at,
        learned=row.value == row.learned_value,
    )
