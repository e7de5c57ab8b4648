"""`GET /v1/principals`: the server's catalogue."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from learner.store.tenants import catalogue
from service.access.security import AnyCaller
from service.dependencies import ServicesDep
from service.sessions import SessionDep

router = APIRouter(prefix="/v1/principals", tags=["principals"])


class PrincipalView(BaseModel):
    """An objective that can bid for tokens."""

    name: str
    kind: Literal["adapter", "prompt", "model", "lexical"]
    description: str
    feature_scale: float = Field(description="Standard deviation of its feature over ordinary answers, nats.")
    loaded: bool = Field(description="Whether this server can steer by it now.")


class Principals(BaseModel):
    """Everything that was ever registered."""

    data: list[PrincipalView]


@router.get("", summary="The catalogue of principals")
def read_principals(services: ServicesDep, session: SessionDep, caller: AnyCaller) -> Principals:
    """What tenants choose from; those that are not loaded cannot be chosen."""
    loaded = services.engine.model.principals
    return Principals(
        data=[
            PrincipalView(
                name=each.name,
                kind=each.kind,  # type: ignore[arg-type]
                description=each.description,
                feature_scale=each.feature_scale,
                loaded=each.name in loaded,
            )
            for each in catalogue(session)
        ]
    )
