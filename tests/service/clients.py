"""Clients with keys of chosen scopes."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from learner.store.keys import create_key
from tests.service.conftest import Stack


@contextmanager
def client_with(stack: Stack, tenant_id: str | None, *scopes: str) -> Iterator[httpx.Client]:
    """A client with a new key of a tenant, or of an operator."""
    with stack.services.database.session() as session:
        _, key = create_key(session, tenant_id, "of a test", scopes)
    with httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        yield client
