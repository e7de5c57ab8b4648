"""Words and token traces of answers: kept where a tenant asks for it, and only for so long."""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, bindparam, delete, or_, select, true, update
from sqlalchemy.orm import Session

from learner.parameters import Parameters
from learner.scope import Scope
from learner.store.erasure import hold_off_erasure
from learner.store.models import LearnerState, Tenant, Transcript

_DAY = timedelta(days=1)


def get_transcript(session: Session, generation_id: str) -> Transcript | None:
    """What is kept of an answer's words; None when nothing is."""
    return session.get(Transcript, generation_id)


def may_be_logged(session: Session, scope: Scope, parameters: Parameters) -> bool:
    """Whether an answer made for a scope with these parameters may be logged: not if its user was erased meanwhile.

    Of a user of whom nothing was learned the store cannot tell: who asks must know it otherwise, and look after this
    call. For an erasure under way is waited for, and until the transaction ends the user is not erased.
    """
    if parameters.user_id is None:
        if scope.user_id is not None:
            hold_off_erasure(session, scope)
        return True
    version = session.scalar(
        select(LearnerState.version)
        .where(LearnerState.tenant_id == parameters.tenant_id, LearnerState.user_id == parameters.user_id)
        .with_for_update(read=True, key_share=True)
    )
    return version is not None and version >= parameters.version


def drop_transcripts(session: Session, now: datetime, limit: int) -> int:
    """Delete transcripts past their tenant's retention, and those that it does not want kept any more."""
    unwanted = and_(Tenant.stores_text.is_(False), Tenant.stores_traces.is_(False))
    # Tenant by tenant, so that each is one range of the index on tenant and time.
    of_tenant = (
        select(Transcript.generation_id)
        .where(Transcript.tenant_id == Tenant.id, or_(_is_old(now), unwanted))
        .limit(limit)
        .lateral()
    )
    doomed = select(of_tenant.c.generation_id).select_from(Tenant).join(of_tenant, true()).limit(limit)
    dropped = session.scalars(
        delete(Transcript)
        .where(Transcript.generation_id.in_(doomed))
        .returning(Transcript.generation_id)
        .execution_options(synchronize_session=False)
    )
    return len(dropped.all())


def blank_transcripts(session: Session, limit: int) -> int:
    """Take the words, or the traces, out of transcripts of tenants that now keep only the other."""
    words = and_(Tenant.stores_text.is_(False), or_(Transcript.messages.is_not(None), Transcript.answer.is_not(None)))
    traces = and_(Tenant.stores_traces.is_(False), Transcript.tokens.is_not(None))
    total = 0
    for unwanted, emptied in ((words, {"messages": None, "answer": None}), (traces, {"tokens": None})):
        too_much = (
            select(Transcript.generation_id)
            .join(Tenant, Tenant.id == Transcript.tenant_id)
            .where(unwanted)
            .limit(limit)
        )
        blanked = session.scalars(
            update(Transcript)
            .where(Transcript.generation_id.in_(too_much))
            .values(emptied)
            .returning(Transcript.generation_id)
            .execution_options(synchronize_session=False)
        )
        total = max(total, len(blanked.all()))
    return total


def _is_old(now: datetime) -> ColumnElement[bool]:
    return Transcript.created_at < bindparam("now", now) - Tenant.retention_days * bindparam("day", _DAY)
