"""What endpoints are given: the process's services, and a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from service.services import Services


def get_services(request: Request) -> Services:
    """The process's services."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]


def get_session(services: ServicesDep) -> Iterator[Session]:
    """One transaction for one request."""
    with services.database.session() as session:
        yield session


# The scope makes the commit happen before the response is sent: a commit that fails must not follow a 201.
SessionDep = Annotated[Session, Depends(get_session, scope="function")]
