"""The tenant that a first start finds ready."""

from __future__ import annotations

from pathlib import Path

from learner.store.database import Database
from learner.store.keys import authenticate, create_key
from learner.store.tenants import find_tenant
from service.operators import make_tenant
from service.settings import ServiceSettings

NAME = "demo"
KEY_FILE = "demo-key"


def ensure_demo_tenant(database: Database, settings: ServiceSettings, data_dir: Path) -> str:
    """The demo tenant's key; made at the first start, then kept in the data directory."""
    key_file = data_dir / KEY_FILE
    with database.session() as session:
        key = key_file.read_text().strip() if key_file.is_file() else ""
        if key and authenticate(session, key) is not None:
            return key
        tenant = find_tenant(session, NAME) or make_tenant(session, settings, NAME)
        _, key = create_key(session, tenant.id, "made by the first start")
    key_file.touch(mode=0o600)
    key_file.write_text(key + "\n")
    return key
