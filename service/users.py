"""What was learned of a user."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from learner.scope import Scope
from learner.store.regret import regret_series
from service.dependencies import ServicesDep
from service.security import ReadCaller
from service.sessions import SessionDep

router = APIRouter(prefix="/v1/users", tags=["users"])

UserPath = Annotated[str, Path(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


class RegretView(BaseModel):
    """How much the learned weights lost against the best fixed weights in hindsight, summed over votes, nats."""

    feedback_count: int
    measured: float = Field(description="Loss of the weights in force less that of the best fixed weights.")
    bound: float = Field(description="What the algorithm guarantees, computed from the same votes.")
    against_prior: float = Field(description="Loss of the configured weights less that of the weights in force.")


class WeightsView(BaseModel):
    """The weights with which this process decodes for the user now."""

    user: str
    weights: dict[str, float]
    parameter_version: int = Field(description="0 before any learning.")
    scope: Literal["user", "tenant"] = Field(description="Whose votes these weights come from.")
    feedback_count: int = Field(description="Votes that these weights rest on.")
    learned_at: datetime | None
    regret: RegretView | None = Field(description="null before the first vote was learned.")


@router.get("/{user_id}/weights", summary="A user's weights and their regret")
def read_weights(services: ServicesDep, session: SessionDep, caller: ReadCaller, user_id: UserPath) -> WeightsView:
    """Answered from the decoder's own parameters: what is shown is what the next answer uses."""
    scope = Scope(caller.tenant_id, user_id)
    parameters = services.parameters.get(scope)
    points = regret_series(session, scope, 1)
    return WeightsView(
        user=user_id,
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
