"""Who is calling, and what the key allows: bearer keys with scopes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from learner.errors import UnknownTenant
from learner.store.keys import SCOPES, authenticate
from learner.store.models import ApiKey, Tenant
from learner.store.tenants import get_tenant
from service.dependencies import ServicesDep
from service.errors import InvalidKey, MissingScope, TenantNotNamed
from service.services import Services

bearer = HTTPBearer(auto_error=False, description="An API key, `cage_…`.")
TenantHeader = Annotated[
    str | None,
    Header(
        alias="X-Cage-Tenant",
        max_length=256,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="With an operator's key: the id of the tenant to act for. Other keys need none.",
    ),
]


@dataclass(frozen=True)
class Caller:
    """The key behind a request and the tenant it acts for, as they were configured when the request came.

    Attributes:
        tenant: None when an operator acts for no tenant in particular.
    """

    key: ApiKey
    tenant: Tenant | None

    @property
    def is_operator(self) -> bool:
        """Whether the key may act for any tenant."""
        return self.key.tenant_id is None

    @property
    def tenant_id(self) -> str | None:
        """The tenant that the request is about."""
        return None if self.tenant is None else self.tenant.id


@dataclass(frozen=True)
class TenantCaller(Caller):
    """A caller who acts for a tenant."""

    tenant: Tenant

    @property
    def tenant_id(self) -> str:
        """The tenant that the request is about."""
        return self.tenant.id


async def get_caller(
    services: ServicesDep,
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    named_tenant: TenantHeader = None,
) -> Caller:
    """The key of a request and the tenant that it acts for.

    Raises:
        InvalidKey: there is no key, or it is unknown, expired or revoked.
        UnknownTenant: the named tenant does not exist, or the key is another tenant's.
    """
    if credentials is None:
        raise InvalidKey("no API key; send it as 'Authorization: Bearer cage_…'")
    caller = services.callers.find(credentials.credentials, named_tenant)
    if caller is None:
        caller = await run_in_threadpool(_look_up, services, credentials.credentials, named_tenant)
        services.callers.keep(credentials.credentials, named_tenant, caller)
    request.state.caller = caller
    return caller


def _look_up(services: Services, key: str, named_tenant: str | None) -> Caller:
    # The only query that has to see keys of all tenants: until it is answered nobody knows whose request it is.
    with services.database.reading() as session:
        found = authenticate(session, key, datetime.now(UTC))
        if found is None:
            raise InvalidKey("this API key is unknown, expired or revoked; ask the operator for a new one")
        tenant = found.tenant
        if named_tenant is not None and tenant is None:
            tenant = get_tenant(session, named_tenant)
        if named_tenant is not None and tenant is not None and tenant.id != named_tenant:
            raise UnknownTenant(f"no tenant has the id {named_tenant!r}")
    return Caller(found.key, tenant)


def requires(*scopes: str, counted: bool = True) -> Callable[..., Awaitable[Caller]]:
    """A dependency: the caller, whose key has one of these scopes.

    Args:
        counted: whether to count the request against the limits of key and tenant; an endpoint that also counts it
            against a user's, or counts tokens, does that itself.

    Raises:
        MissingScope: the key has none of them.
        RateLimited: a limit of requests is reached.
    """
    meaning = " or ".join(SCOPES[scope] for scope in scopes)

    async def checked(services: ServicesDep, request: Request, caller: Caller = Depends(get_caller)) -> Caller:
        if not set(scopes) & set(caller.key.scopes):
            needed, held = " or ".join(scopes), ", ".join(caller.key.scopes)
            raise MissingScope(f"this key may not {meaning}: that needs the scope {needed}, it has {held}")
        if counted and services.limits.apply_to(caller):
            await run_in_threadpool(services.limits.admit, request, caller, None)
        return caller

    return checked


def for_tenant(*scopes: str, counted: bool = True) -> Callable[..., Awaitable[TenantCaller]]:
    """A dependency: the caller, whose key has one of these scopes and who acts for a tenant.

    Args:
        counted: see `requires`.

    Raises:
        MissingScope: the key has none of them.
        RateLimited: a limit of requests is reached.
        TenantNotNamed: an operator's key, and no tenant is named.
    """

    async def checked(caller: Caller = Depends(requires(*scopes, counted=counted))) -> TenantCaller:
        if caller.tenant is None:
            raise TenantNotNamed("an operator's key must name the tenant in the header X-Cage-Tenant", "X-Cage-Tenant")
        return TenantCaller(caller.key, caller.tenant)

    return checked


GenerateCaller = Annotated[TenantCaller, Depends(for_tenant("generate", counted=False))]
FeedbackCaller = Annotated[TenantCaller, Depends(for_tenant("feedback"))]
VoteCaller = Annotated[TenantCaller, Depends(for_tenant("feedback", counted=False))]
ReadCaller = Annotated[TenantCaller, Depends(for_tenant("read"))]
UserOperateCaller = Annotated[TenantCaller, Depends(for_tenant("operate"))]
OperateCaller = Annotated[Caller, Depends(requires("operate"))]
AdminCaller = Annotated[Caller, Depends(requires("admin"))]
ConfigurationCaller = Annotated[Caller, Depends(requires("operate", "admin"))]
AnyCaller = Annotated[Caller, Depends(get_caller)]
