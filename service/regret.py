"""`GET /v1/regret`: what was lost against the best fixed weights in hindsight, and what could be lost at most."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from learner.scope import Scope
from learner.store.models import RegretPoint
from learner.store.regret import regret_series
from service.access.security import ReadCaller
from service.chat.schemas import UserId
from service.sessions import SessionDep

router = APIRouter(prefix="/v1/regret", tags=["regret"])


class RegretMeasurement(BaseModel):
    """Totals over the votes that were covered, nats."""

    parameter_version: int
    feedback_count: int
    measured: float = Field(description="Loss of the weights in force less that of the best fixed weights.")
    bound: float = Field(description="What the algorithm guarantees, computed from the same votes.")
    incurred_loss: float = Field(description="Under the weights in force when each answer was made.")
    best_loss: float = Field(description="Under the best fixed coefficients, known only in hindsight.")
    prior_loss: float = Field(description="Under the configured weights.")
    uniform_loss: float = Field(description="Under equal weights.")
    best_coefficients: dict[str, float] = Field(description="The best fixed coefficient of each principal.")
    measured_at: datetime

    @classmethod
    def of(cls, point: RegretPoint) -> Self:
        """The stored point; of its theta the last is the bias, which is no principal's."""
        return cls(
            parameter_version=point.version,
            feedback_count=point.feedback_count,
            measured=point.regret,
            bound=point.bound,
            incurred_loss=point.incurred_loss,
            best_loss=point.best_loss,
            prior_loss=point.prior_loss,
            uniform_loss=point.uniform_loss,
            best_coefficients=dict(zip(point.best_principals, point.best_theta, strict=False)),
            measured_at=point.measured_at,
        )


class RegretSeries(BaseModel):
    """The newest measurements, oldest first."""

    user: str | None = Field(description="null: all users of the tenant together.")
    data: list[RegretMeasurement]


@router.get("", summary="Regret over time")
def read_regret(
    session: SessionDep,
    caller: ReadCaller,
    user: Annotated[UserId | None, Query(description="One user; left out, the whole tenant.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> RegretSeries:
    """Of the tenant, or of one user; empty before the first vote was learned."""
    points = regret_series(session, Scope(caller.tenant_id, user), limit)
    return RegretSeries(user=user, data=[RegretMeasurement.of(point) for point in points])
