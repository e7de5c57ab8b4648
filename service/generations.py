"""`/v1/generations`: answers as they are on record."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from learner.errors import UnknownGeneration
from learner.store.feedback import votes_on
from learner.store.generations import get_generation, list_generations
from learner.store.models import Feedback, Generation, Transcript
from learner.store.transcripts import get_transcript
from service.access.security import ReadCaller
from service.chat.schemas import TokenReport, UserId
from service.sessions import SessionDep

router = APIRouter(prefix="/v1/generations", tags=["generations"])

GenerationId = Annotated[str, Path(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


class GenerationSummary(BaseModel):
    """An answer without its words."""

    id: str
    user: str | None
    created_at: datetime
    model: str
    mode: str
    parameter_version: int = Field(description="Version of the learned parameters in force; 0 before any learning.")
    scope: Literal["user", "tenant"] = Field(description="Whose parameters were in force.")
    weights: dict[str, float] = Field(description="Of each principal, as it was steered.")
    features: dict[str, float] = Field(description="How far the answer went each principal's way.")
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    largest_gap: float | None
    mean_gap: float | None
    seed: int | None
    solver_seconds: float | None

    @classmethod
    def fields_of(cls, answer: Generation) -> dict[str, Any]:
        """The stored answer, by principal."""
        return {
            **{name: getattr(answer, name) for name in cls.model_fields if hasattr(answer, name)},
            "user": answer.user_id,
            "scope": "tenant" if answer.parameter_user_id is None else "user",
            "weights": dict(zip(answer.principals, answer.weights, strict=True)),
            "features": dict(zip(answer.principals, answer.features, strict=True)),
        }

    @classmethod
    def of(cls, answer: Generation) -> Self:
        """The stored answer."""
        return cls.model_validate(cls.fields_of(answer))


class VoteOnAnswer(BaseModel):
    """Somebody's thumb."""

    feedback_id: str
    user: str | None
    value: Literal["up", "down"] | None = Field(description="null when retracted.")
    comment: str | None
    tags: list[str]
    implied: bool = Field(description="Cast by default, since nobody voted.")
    updated_at: datetime

    @classmethod
    def of(cls, vote: Feedback) -> Self:
        """The stored vote."""
        return cls(
            feedback_id=vote.id,
            user=vote.user_id or None,
            value=None if vote.value is None else ("up" if vote.value > 0 else "down"),
            comment=vote.comment,
            tags=vote.tags,
            implied=vote.implied,
            updated_at=vote.updated_at,
        )


class GenerationView(GenerationSummary):
    """An answer with its votes, and what was kept of its words."""

    coefficients: dict[str, float] = Field(description="Learned coefficient of each principal in force.")
    bias: float
    votes: list[VoteOnAnswer]
    messages: list[dict[str, Any]] | None = Field(description="null unless the tenant stores text.")
    answer: str | None = Field(description="null unless the tenant stores text.")
    tokens: list[TokenReport] | None = Field(description="Who moved each token; null unless the tenant stores traces.")

    @classmethod
    def assembled(cls, answer: Generation, votes: Sequence[Feedback], words: Transcript | None) -> Self:
        """The stored answer and what belongs to it."""
        return cls.model_validate(
            {
                **cls.fields_of(answer),
                "coefficients": dict(zip(answer.principals, answer.theta[:-1], strict=True)),
                "bias": answer.theta[-1],
                "votes": [VoteOnAnswer.of(vote) for vote in votes],
                "messages": words and words.messages,
                "answer": None if words is None else words.answer,
                "tokens": words and words.tokens,
            }
        )


class Generations(BaseModel):
    """A page of answers, newest first."""

    data: list[GenerationSummary]
    next_before: str | None = Field(description="Pass as `before` for the next page; null at the end.")


@router.get("", summary="Answers, newest first")
def read_generations(
    session: SessionDep,
    caller: ReadCaller,
    user: Annotated[UserId | None, Query(description="Only answers made for this user.")] = None,
    before: Annotated[UserId | None, Query(description="Id of an answer: only older ones.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Generations:
    """Of one user, or of all; words come with `GET /v1/generations/{id}`."""
    found = list_generations(session, caller.tenant_id, user_id=user, before=before, limit=limit)
    return Generations(
        data=[GenerationSummary.of(answer) for answer in found],
        next_before=found[-1].id if len(found) == limit else None,
    )


@router.get("/{generation_id}", summary="One answer")
def read_generation(session: SessionDep, caller: ReadCaller, generation_id: GenerationId) -> GenerationView:
    """How it was steered, what was said of it, and what was kept of its words."""
    answer = get_generation(session, caller.tenant_id, generation_id)
    if answer is None:
        raise UnknownGeneration(f"no generation has the id {generation_id!r}")
    return GenerationView.assembled(answer, votes_on(session, answer.id), get_transcript(session, answer.id))
