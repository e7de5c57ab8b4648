"""What endpoints are given: the process's services."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from service.services import Services


def get_services(request: Request) -> Services:
    """The process's services."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]
