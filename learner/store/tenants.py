"""Tenants, their principals, and the catalogue that principals are chosen from."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from learner.errors import InvalidExploration, InvalidPrincipals, NameTaken, UnknownPrincipal, UnknownTenant
from learner.store.identifiers import new_id
from learner.store.models import Principal, Tenant, TenantPrincipal

EXPLORATIONS = ("none", "thompson")

Changes = dict[str, tuple[Any, Any]]
"""What is different now: name -> (before, after)."""


@dataclass(frozen=True)
class CatalogueEntry:
    """A principal that the server offers; `feature_scale` brings its features to unit size."""

    name: str
    kind: str
    description: str
    feature_scale: float


@dataclass(frozen=True)
class PrincipalOfTenant:
    """A principal as a tenant uses it."""

    name: str
    kind: str
    prior_weight: float
    feature_scale: float


def register_principals(session: Session, catalogue: Iterable[CatalogueEntry]) -> None:
    """Add principals to the catalogue; of known ones only kind and description change.

    The feature scale stays as first registered: features already logged were divided by it.

    Raises:
        InvalidPrincipals: a feature scale is not a positive number.
    """
    entries = list(catalogue)
    for entry in entries:
        if not (math.isfinite(entry.feature_scale) and entry.feature_scale > 0):
            raise InvalidPrincipals(f"the feature scale of {entry.name!r} must be a positive number")
    if not entries:
        return
    insertion = postgresql.insert(Principal).values([vars(entry) for entry in entries])
    session.execute(
        insertion.on_conflict_do_update(
            index_elements=[Principal.name],
            set_={"kind": insertion.excluded.kind, "description": insertion.excluded.description},
        )
    )


def feature_scales(session: Session) -> dict[str, float]:
    """Feature scale of every principal of the catalogue, nats."""
    rows = session.execute(select(Principal.name, Principal.feature_scale))
    return {row.name: row.feature_scale for row in rows}


def create_tenant(
    session: Session,
    *,
    name: str,
    model: str,
    principals: Mapping[str, float],
    strength: float,
    mode: str,
    temperature: float = 1.0,
) -> Tenant:
    """A new tenant; `principals` maps names, in the tenant's order, to prior weights (normalised here).

    Raises:
        InvalidPrincipals: no principal, or weights that are negative, not finite or all zero.
        UnknownPrincipal: the catalogue lacks one.
    """
    weights = _normalised(principals)
    _check_known(session, weights)
    tenant = Tenant(id=new_id("ten"), name=name, model=model, mode=mode, strength=strength, temperature=temperature)
    session.add(tenant)
    session.flush()
    session.execute(insert(TenantPrincipal), _rows(tenant.id, weights))
    session.refresh(tenant)
    return tenant


def change_tenant(session: Session, tenant: Tenant, changes: Mapping[str, Any]) -> Changes:
    """Set columns of a tenant; returns those that are not what they were, with before and after.

    Raises:
        NameTaken: another tenant is called this.
    """
    changed = {name: (getattr(tenant, name), value) for name, value in changes.items()}
    changed = {name: (before, after) for name, (before, after) in changed.items() if before != after}
    if "name" in changed and find_tenant(session, changed["name"][1]) is not None:
        raise NameTaken(f"a tenant is called {changed['name'][1]!r} already; choose another name")
    for name, (_, after) in changed.items():
        setattr(tenant, name, after)
    session.flush()
    return changed


def change_principals(session: Session, tenant_id: str, principals: Mapping[str, float]) -> Changes:
    """Choose a tenant's principals and their prior weights anew; what was learned is not solved again here.

    Raises:
        InvalidPrincipals, UnknownPrincipal: see `create_tenant`.
    """
    weights = _normalised(principals)
    _check_known(session, weights)
    before = {each.name: each.prior_weight for each in tenant_principals(session, tenant_id)}
    if list(before.items()) == list(weights.items()):
        return {}
    session.execute(delete(TenantPrincipal).where(TenantPrincipal.tenant_id == tenant_id))
    session.execute(insert(TenantPrincipal), _rows(tenant_id, weights))
    return {"principals": (before, weights)}


def list_tenants(session: Session, *, after: str | None, limit: int) -> Sequence[Tenant]:
    """Tenants in order of their ids; only those after one of them."""
    page = select(Tenant).order_by(Tenant.id).limit(limit)
    return session.scalars(page if after is None else page.where(Tenant.id > after)).all()


def locked_tenant(session: Session, tenant_id: str) -> Tenant:
    """One tenant, locked until the end of the transaction; rows may refer to it meanwhile.

    Raises:
        UnknownTenant: there is none of this id.
    """
    tenant = session.scalar(select(Tenant).where(Tenant.id == tenant_id).with_for_update(key_share=True))
    if tenant is None:
        raise UnknownTenant(f"no tenant has the id {tenant_id!r}")
    return tenant


def catalogue(session: Session) -> Sequence[Principal]:
    """Every principal that was ever registered, by name."""
    return session.scalars(select(Principal).order_by(Principal.name)).all()


def _check_known(session: Session, names: Collection[str]) -> None:
    known = set(session.scalars(select(Principal.name).where(Principal.name.in_(names))))
    for name in names:
        if name not in known:
            raise UnknownPrincipal(f"no principal is called {name!r}; register it first")


def _rows(tenant_id: str, weights: Mapping[str, float]) -> list[dict[str, Any]]:
    return [
        {"tenant_id": tenant_id, "principal_name": principal, "position": position, "prior_weight": weight}
        for position, (principal, weight) in enumerate(weights.items())
    ]


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights.values()):
        raise InvalidPrincipals("prior weights must be finite and not negative")
    total = math.fsum(weights.values())
    if not (math.isfinite(total) and total > 0):
        raise InvalidPrincipals("a tenant needs at least one principal with a positive prior weight")
    return {name: weight / total for name, weight in weights.items()}


def get_tenant(session: Session, tenant_id: str) -> Tenant:
    """One tenant.

    Raises:
        UnknownTenant: there is none of this id.
    """
    tenant = session.get(Tenant, tenant_id)
    if tenant is None:
        raise UnknownTenant(f"no tenant has the id {tenant_id!r}")
    return tenant


def find_tenant(session: Session, name: str) -> Tenant | None:
    """The tenant of this name, if there is one."""
    return session.scalar(select(Tenant).where(Tenant.name == name))


def set_exploration(session: Session, tenant_id: str, exploration: str) -> None:
    """Choose how a tenant explores, from the next request on.

    Raises:
        InvalidExploration: it is neither 'none' nor 'thompson'.
        UnknownTenant: there is none of this id.
    """
    if exploration not in EXPLORATIONS:
        raise InvalidExploration(f"exploration is one of {', '.join(EXPLORATIONS)}, not {exploration!r}")
    get_tenant(session, tenant_id).exploration = exploration
    session.flush()


def tenant_principals(session: Session, tenant_id: str) -> tuple[PrincipalOfTenant, ...]:
    """A tenant's principals in its order.

    Raises:
        UnknownTenant: there is none of this id.
    """
    rows = session.execute(
        select(Principal.name, Principal.kind, TenantPrincipal.prior_weight, Principal.feature_scale)
        .join(Principal, Principal.name == TenantPrincipal.principal_name)
        .where(TenantPrincipal.tenant_id == tenant_id)
        .order_by(TenantPrincipal.position)
    )
    found = tuple(PrincipalOfTenant(*row) for row in rows)
    if not found:
        raise UnknownTenant(f"no tenant has the id {tenant_id!r}")
    return found
