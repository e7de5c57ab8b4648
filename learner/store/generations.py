"""Answers that were given, as far as learning needs them."""

import math

from sqlalchemy import select
from sqlalchemy.orm import Session

from learner.errors import InvalidGeneration
from learner.store.models import Generation


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
