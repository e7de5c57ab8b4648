"""Who is calling: bearer keys of tenants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from learner.store.keys import authenticate
from service.dependencies import ServicesDep
from service.errors import InvalidKey

bearer = HTTPBearer(auto_error=False, description="A tenant's API key, `cage_…`.")


@dataclass(frozen=True)
class Caller:
    """The tenant behind a request, as it was configured when the request came."""

    tenant_id: str
    mode: str
    strength: float
    temperature: float
    exploration: str


def get_caller(
    services: ServicesDep, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Caller:
    """The tenant that the request's key belongs to.

    Raises:
        InvalidKey: there is no key, or it is unknown or revoked.
    """
    if credentials is None:
        raise InvalidKey("no API key; send it as 'Authorization: Bearer cage_…'")
    with services.database.session() as session:
        tenant = authenticate(session, credentials.credentials)
        if tenant is None:
            raise InvalidKey("this API key is unknown or revoked; ask the operator for a new one")
        return Caller(tenant.id, tenant.mode, tenant.strength, tenant.temperature, tenant.exploration)


CallerDep = Annotated[Caller, Depends(get_caller)]
