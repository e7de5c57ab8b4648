"""`/v1/tenants`: how a tenant's answers are steered, what is kept of it, and its limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from cage_core.engine import Steering
from cage_core.engine.engine import check_steering
from learner.erasing import clear_tenants_traces, delete_tenant
from learner.errors import NameTaken, UnknownTenant
from learner.publishing import Notice
from learner.relearning import relearn_in
from learner.scope import Scope
from learner.store.models import Tenant
from learner.store.tenants import (
    Changes,
    change_principals,
    change_tenant,
    create_tenant,
    find_tenant,
    get_tenant,
    list_tenants,
    locked_tenant,
    tenant_principals,
)
from service.access.auditing import audit
from service.access.idempotency import Idempotent
from service.access.security import AdminCaller, Caller, ConfigurationCaller
from service.dependencies import ServicesDep
from service.errors import InvalidBody, OperatorOnly
from service.services import Services
from service.tenants.schemas import LIMITS, DeletedTenant, NewTenant, TenantChange, Tenants, TenantView
from service.users.forgetting import put_to_use, tell_everyone

router = APIRouter(prefix="/v1/tenants", tags=["tenants"])

TenantId = Annotated[str, Path(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9_-]+$")]
After = Annotated[str | None, Query(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9_-]+$")]
Limit = Annotated[int, Query(ge=1, le=500)]


@router.get("", summary="All tenants")
def read_tenants(
    services: ServicesDep, caller: ConfigurationCaller, after: After = None, limit: Limit = 100
) -> Tenants:
    """All of them for an operator who names none, by id; else the caller's own."""
    with services.database.session(caller.tenant_id) as session:
        found = list_tenants(session, after=after, limit=limit)
        views = [_view(session, tenant) for tenant in found]
    return Tenants(data=views, next_after=found[-1].id if len(found) == limit else None)


@router.post("", status_code=201, summary="Make a tenant", dependencies=[Idempotent])
def make_tenant(services: ServicesDep, caller: AdminCaller, request: Request, body: NewTenant) -> TenantView:
    """For operators. What is left out is the server's default; it has no key yet: `POST /v1/keys` makes one."""
    _operators_only(caller, "make tenants")
    settings = services.settings
    principals = body.principals or dict.fromkeys(services.engine.model.principals, 1.0)
    _check_loaded(services, principals)
    with _names_are_unique(), services.database.session() as session:
        if find_tenant(session, body.name) is not None:
            raise NameTaken(f"a tenant is called {body.name!r} already; choose another name")
        tenant = create_tenant(
            session,
            name=body.name,
            model=settings.model_name,
            principals=principals,
            strength=settings.default_strength,
            mode=settings.default_mode,
        )
        change_tenant(session, tenant, {**body.columns(), "name": body.name})
        _check_steering(session, tenant)
        _note(session, caller, request, "tenant.create", tenant.id, body.model_dump(exclude_unset=True))
        return _view(session, tenant)


@router.get("/{tenant_id}", summary="One tenant")
def read_tenant(services: ServicesDep, caller: ConfigurationCaller, tenant_id: TenantId) -> TenantView:
    """Its configuration."""
    _check_target(caller, tenant_id)
    with services.database.session(tenant_id) as session:
        return _view(session, get_tenant(session, tenant_id))


@router.patch("/{tenant_id}", summary="Change a tenant", dependencies=[Idempotent])
def edit_tenant(
    services: ServicesDep, caller: AdminCaller, request: Request, tenant_id: TenantId, body: TenantChange
) -> TenantView:
    """What is left out stays. Decoders follow within a second, and so does what was learned; limits take an operator.

    New principals or prior weights are solved for at once with all votes on record: nothing learned is lost.
    """
    _check_target(caller, tenant_id)
    columns = body.columns()
    if set(columns) & set(LIMITS):
        _operators_only(caller, "change limits")
    if body.principals is not None:
        _check_loaded(services, body.principals)
    renewed, changed = None, Changes()
    with _names_are_unique(), services.database.session(tenant_id) as session:
        tenant = locked_tenant(session, tenant_id)
        changed = change_tenant(session, tenant, columns)
        if body.principals is not None:
            solved_anew = change_principals(session, tenant_id, body.principals)
            changed |= solved_anew
            if solved_anew:
                renewed = relearn_in(session, Scope(tenant_id), services.settings, datetime.now(UTC))
        _check_steering(session, tenant)
        if changed:
            details = {name: {"before": before, "after": after} for name, (before, after) in changed.items()}
            _note(session, caller, request, "tenant.change", tenant_id, details)
        view = _view(session, tenant)
    services.callers.forget()
    if "principals" in changed:
        if renewed is not None:
            put_to_use(services, renewed)
        tell_everyone(services, Notice("configured", tenant_id))
    return view


@router.delete("/{tenant_id}", summary="Delete a tenant", dependencies=[Idempotent])
def remove_tenant(services: ServicesDep, caller: AdminCaller, request: Request, tenant_id: TenantId) -> DeletedTenant:
    """For operators. Keys, users, answers and everything learned go; the audit log stays. Repeating it finishes it."""
    _check_target(caller, tenant_id)
    _operators_only(caller, "delete tenants")
    deleted, missing = Counter[str](), None
    with services.database.session() as session:
        try:
            deleted = delete_tenant(session, tenant_id)
        except UnknownTenant as error:
            missing = error
        else:
            _note(session, caller, request, "tenant.delete", tenant_id, {"deleted": dict(deleted)})
    # Also of one that is gone already: whoever deleted it may have died before this.
    cleared = clear_tenants_traces(services.redis, tenant_id, services.settings)
    services.callers.forget()
    services.parameters.hear(Notice("deleted", tenant_id))
    if missing is not None:
        raise missing
    return DeletedTenant(id=tenant_id, deleted=dict(deleted), cleared=dict(cleared))


def _check_target(caller: Caller, tenant_id: str) -> None:
    """A caller who acts for another tenant is told what a stranger is told."""
    if caller.tenant_id not in (None, tenant_id):
        raise UnknownTenant(f"no tenant has the id {tenant_id!r}")


@contextmanager
def _names_are_unique() -> Iterator[None]:
    """Two who take the same name at once: the second is told."""
    try:
        yield
    except IntegrityError as error:
        raise NameTaken("another tenant took this name at the same moment; choose another one") from error


def _operators_only(caller: Caller, what: str) -> None:
    if not caller.is_operator:
        raise OperatorOnly(f"only an operator's key may {what}")


def _check_loaded(services: Services, principals: Mapping[str, float]) -> None:
    loaded = services.engine.model.principals
    for name in principals:
        if name not in loaded:
            raise InvalidBody(f"no principal {name!r} is loaded; there are {', '.join(loaded)}", "principals")


def _check_steering(session: Session, tenant: Tenant) -> None:
    """See that answers can be steered so.

    Raises:
        InvalidDecodeRequest: they cannot.
    """
    weights = {each.name: each.prior_weight for each in tenant_principals(session, tenant.id)}
    reserves = dict.fromkeys(weights, 0.0)  # mode "committed" has them once something was learned
    check_steering(Steering(weights, tenant.strength, tenant.mode, tenant.balance, tenant.kl_budget_nats, reserves))


def _note(
    session: Session, caller: Caller, request: Request, action: str, tenant_id: str, details: Mapping[str, Any]
) -> None:
    audit(session, caller, request, action, tenant_id, details, tenant_id=tenant_id)


def _view(session: Session, tenant: Tenant) -> TenantView:
    return TenantView.of(tenant, tenant_principals(session, tenant.id))
