"""What is kept of an answer's words, for tenants that ask for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from cage_core.engine import Answer
from learner.store.models import Tenant, Transcript
from service.chat.schemas import TokenReport


def transcript_of(
    generation_id: str, tenant: Tenant, messages: Sequence[Mapping[str, str]], answer: Answer, now: datetime
) -> Transcript | None:
    """The words, the traces, both, or nothing at all, as the tenant wants it."""
    if not (tenant.stores_text or tenant.stores_traces):
        return None
    traces = [TokenReport.of(trace, answer.principals).model_dump() for trace in answer.traces]
    return Transcript(
        generation_id=generation_id,
        tenant_id=tenant.id,
        created_at=now,
        messages=[dict(message) for message in messages] if tenant.stores_text else None,
        answer=answer.text if tenant.stores_text else None,
        tokens=traces if tenant.stores_traces else None,
    )
