"""Answers that were given, as far as learning needs them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, tuple_, update
from sqlalchemy.orm import Session, defer, load_only

from learner.errors import InvalidGeneration, UnknownGeneration
from learner.scope import Scope
from learner.store.models import Generation


@dataclass(frozen=True)
class StoredContext:
    """One token's game as it was logged.

    Attributes:
        base_log_probs: [candidates], nats.
        rewards: [principals][candidates], nats.
    """

    principals: tuple[str, ...]
    base_log_probs: Sequence[float]
    rewards: Sequence[Sequence[float]]


def add_generation(session: Session, generation: Generation) -> None:
    """Log one answer.

    Raises:
        InvalidGeneration: its numbers are not finite, or not one per principal; nothing is written.
    """
    principals = len(generation.principals)
    if len(set(generation.principals)) != principals:
        raise InvalidGeneration(f"generation {generation.id!r} names a principal twice")
    lengths = (len(generation.features), len(generation.theta) - 1, len(generation.weights))
    if lengths != (principals,) * 3:
        raise InvalidGeneration(
            f"generation {generation.id!r} has {principals} principals but not as many features, weights and "
            "coefficients (theta carries the bias besides)"
        )
    if not all(map(math.isfinite, [*generation.features, *generation.theta, *generation.weights])):
        raise InvalidGeneration(f"generation {generation.id!r} carries numbers that are not finite")
    session.add(generation)
    session.flush()


def get_generation(session: Session, tenant_id: str, generation_id: str) -> Generation | None:
    """One answer of a tenant; None when it does not exist or is another tenant's."""
    return session.scalar(select(Generation).where(Generation.id == generation_id, Generation.tenant_id == tenant_id))


def kept_generation(session: Session, tenant_id: str, generation_id: str) -> Generation | None:
    """Whose answer it is, which is not erased before the transaction ends; its other columns load when asked for."""
    return session.scalar(
        select(Generation)
        .options(load_only(Generation.user_id))
        .where(Generation.id == generation_id, Generation.tenant_id == tenant_id)
        .with_for_update(read=True, key_share=True)
    )


def list_generations(
    session: Session, tenant_id: str, *, user_id: str | None, before: str | None, limit: int
) -> Sequence[Generation]:
    """The newest answers of a tenant or of one of its users, newest first; only those older than `before`.

    Raises:
        UnknownGeneration: there is no answer `before`, or it is another tenant's.
    """
    place = tuple_(Generation.created_at, Generation.id)
    page = select(Generation).where(Generation.tenant_id == tenant_id).options(defer(Generation.contexts))
    if user_id is not None:
        page = page.where(Generation.user_id == user_id)
    if before is not None:
        last = get_generation(session, tenant_id, before)
        if last is None:
            raise UnknownGeneration(f"no generation has the id {before!r}")
        page = page.where(place < (last.created_at, last.id))
    newest_first = Generation.created_at.desc(), Generation.id.desc()
    return session.scalars(page.order_by(*newest_first).limit(limit)).all()


def newest_contexts(session: Session, scope: Scope, limit: int) -> list[StoredContext]:
    """The newest token contexts of a scope's answers, newest first; for a tenant, those of all its users."""
    rows = session.execute(
        select(Generation.principals, Generation.contexts)
        .where(
            Generation.tenant_id == scope.tenant_id,
            *(() if scope.user_id is None else (Generation.user_id == scope.user_id,)),
            Generation.contexts.is_not(None),
        )
        .order_by(Generation.created_at.desc())
        .limit(limit)
    )
    found: list[StoredContext] = []
    for principals, contexts in rows:
        names = tuple(principals)
        found += [StoredContext(names, each["base_log_probs"], each["rewards"]) for each in contexts]
        if len(found) >= limit:
            break
    return found[:limit]


def drop_contexts(session: Session, before: datetime, limit: int) -> int:
    """Delete the token contexts of answers made before a time; returns of how many answers."""
    old = select(Generation.id).where(Generation.contexts.is_not(None), Generation.created_at < before).limit(limit)
    dropped = session.scalars(
        update(Generation)
        .where(Generation.id.in_(old))
        .values(contexts=None)
        .returning(Generation.id)
        .execution_options(synchronize_session=False)
    )
    return len(dropped.all())
