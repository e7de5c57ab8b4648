"""The tenant that a first start finds ready."""

from __future__ import annotations

from pathlib import Path

from cage_core.principals.catalogue import find_principals
from learner.store.database import Database
from learner.store.keys import authenticate, create_key
from learner.store.tenants import find_tenant
from service.operators import make_tenant
from service.settings import ServiceSettings

KEY_FILE = "demo-key"


def ensure_demo_tenant(database: Database, settings: ServiceSettings, data_dir: Path) -> str:
    """The demo tenant's key; made at the first start, then kept in the data directory.

    Another model or other principals make another demo tenant: a tenant's principals are what it has learned about.
    """
    name = _name(settings)
    key_file = data_dir / KEY_FILE
    with database.session() as session:
        key = key_file.read_text().strip() if key_file.is_file() else ""
        tenant = authenticate(session, key) if key else None
        if tenant is not None and tenant.name == name:
            return key
        tenant = find_tenant(session, name) or make_tenant(session, settings, name)
        _, key = create_key(session, tenant.id, "made by the first start")
    key_file.touch(mode=0o600)
    key_file.write_text(key + "\n")
    return key


def _name(settings: ServiceSettings) -> str:
    principals = find_principals(*settings.principal_directories)
    return f"demo: {settings.model_name} with {', '.join(p.name for p in principals)}"
