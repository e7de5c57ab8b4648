"""One transaction for one request, behind row-level security."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy.orm import Session

from service.access.security import AnyCaller
from service.dependencies import ServicesDep


def get_session(services: ServicesDep, caller: AnyCaller) -> Iterator[Session]:
    """A transaction that sees the rows of the caller's tenant; an operator's that names none sees all."""
    with services.database.session(caller.tenant_id) as session:
        yield session


AT_ONCE = 4
"""Requests with such a transaction. Between their steps they hold a connection and wait for a thread, while all threads
may be held by requests that wait for a connection: so they must be fewer than the pool has connections."""

# The scope makes the commit happen before the response is sent: a commit that fails must not follow a 201.
SessionDep = Annotated[Session, Depends(get_session, scope="function", max_concurrency=AT_ONCE)]
