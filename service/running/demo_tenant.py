"""The tenant and the keys that a first start finds ready."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.orm import Session

from cage_core.principals.catalogue import find_principals
from learner.store.database import Database
from learner.store.keys import PRODUCT_SCOPES, SCOPES, authenticate, create_key
from learner.store.tenants import find_tenant
from service.running.addresses import KEY_FILE, OPERATOR_KEY_FILE
from service.settings import ServiceSettings
from service.tenants.operators import make_tenant


def ensure_demo_tenant(database: Database, settings: ServiceSettings, data_dir: Path) -> str:
    """The demo tenant's key; made at the first start, then kept in the data directory.

    Another model or other principals make another demo tenant: a tenant's principals are what it has learned about.
    """
    name = _name(settings)
    key_file = data_dir / KEY_FILE
    with database.session() as session:
        tenant = find_tenant(session, name) or make_tenant(session, settings, name)
        return _kept_key(session, key_file, tenant.id, PRODUCT_SCOPES)


def ensure_operator_key(database: Database, data_dir: Path) -> str:
    """An operator's key for the dashboard and for administration; made at the first start."""
    with database.session() as session:
        return _kept_key(session, data_dir / OPERATOR_KEY_FILE, None, SCOPES)


def _kept_key(session: Session, key_file: Path, tenant_id: str | None, scopes: Collection[str]) -> str:
    """The key in the file, if it still is one of this tenant's; else a new one, kept there for its owner alone."""
    key = key_file.read_text().strip() if key_file.is_file() else ""
    found = authenticate(session, key, datetime.now(UTC)) if key else None
    if found is not None and found.key.tenant_id == tenant_id:
        return key
    _, key = create_key(session, tenant_id, "made by the first start", scopes)
    key_file.touch(mode=0o600)
    key_file.write_text(key + "\n")
    return key


def _name(settings: ServiceSettings) -> str:
    principals = find_principals(*settings.principal_directories)
    return f"demo: {settings.model_name} with {', '.join(p.name for p in principals)}"
