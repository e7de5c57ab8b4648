"""Notes what was done through the API, and `GET /v1/audit`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from learner.store.audit import add_entry, list_entries
from service.access.security import AdminCaller, Caller
from service.services import Services
from service.sessions import SessionDep

router = APIRouter(prefix="/v1/audit", tags=["audit"])

_LARGEST_ID = 2**63 - 1


class AuditEntryView(BaseModel):
    """One thing that was done."""

    id: int
    at: datetime
    tenant: str | None
    actor: str = Field(description="Id of the key, or `command line`.")
    action: str
    target: str
    details: dict[str, Any] | None
    request_id: str | None


class AuditLog(BaseModel):
    """A page of the log, newest first."""

    data: list[AuditEntryView]
    next_before: int | None = Field(description="Pass as `before` for the next page; null at the end.")


@router.get("", summary="Who changed what, when")
def read_audit_log(
    session: SessionDep,
    caller: AdminCaller,
    before: Annotated[int | None, Query(ge=1, le=_LARGEST_ID)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> AuditLog:
    """The caller's tenant; of an operator who names no tenant, everything."""
    entries = list_entries(session, caller.tenant_id, before=before, limit=limit)
    return AuditLog(
        data=[AuditEntryView.model_validate({**entry.__dict__, "tenant": entry.tenant_id}) for entry in entries],
        next_before=entries[-1].id if len(entries) == limit else None,
    )


def audit(
    session: Session,
    caller: Caller,
    request: Request,
    action: str,
    target: str,
    details: Mapping[str, Any] | None = None,
    *,
    tenant_id: str | None = None,
) -> None:
    """Note an action in the transaction that does it; of the caller's tenant unless another is named."""
    add_entry(
        session,
        at=datetime.now(UTC),
        tenant_id=tenant_id or caller.tenant_id,
        actor=caller.key.id,
        action=action,
        target=target,
        details=details,
        request_id=getattr(request.state, "request_id", None),
    )
    # What is worth an entry may have changed what callers may do.
    services: Services = request.app.state.services
    services.callers.forget()
