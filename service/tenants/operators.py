"""What an operator does to tenants."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy.orm import Session

from cage_core.errors import InvalidModel
from learner.errors import NameTaken
from learner.store.audit import add_entry
from learner.store.keys import create_key
from learner.store.models import Tenant
from learner.store.tenants import create_tenant, find_tenant
from service.registration import registered
from service.settings import ServiceSettings


def make_tenant(session: Session, settings: ServiceSettings, name: str) -> Tenant:
    """A tenant that uses every loaded principal with equal prior weight.

    Raises:
        InvalidModel: a principal's directory is unusable, or there is none.
        NameTaken: another tenant is called this.
    """
    principals = registered(session, settings)
    if not principals:
        places = " and ".join(map(str, settings.principal_directories))
        raise InvalidModel(f"there is no principal in {places}; train one with `cage principals train`")
    if find_tenant(session, name) is not None:
        raise NameTaken(f"a tenant is called {name!r} already; choose another name")
    return create_tenant(
        session,
        name=name,
        model=settings.model_name,
        principals={p.name: 1.0 for p in principals},
        strength=settings.default_strength,
        mode=settings.default_mode,
    )


def make_tenant_with_key(session: Session, settings: ServiceSettings, name: str) -> tuple[Tenant, str]:
    """`make_tenant`, and the plaintext of a first key."""
    tenant = make_tenant(session, settings, name)
    _, key = create_key(session, tenant.id, "first key")
    add_entry(
        session,
        at=datetime.now(UTC),
        tenant_id=tenant.id,
        actor="command line",
        action="tenant.create",
        target=tenant.id,
        details={"name": name},
    )
    return tenant, key
