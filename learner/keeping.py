"""Housekeeping, now and then: votes for answers that never got one, and token contexts past their time."""

from datetime import datetime, timedelta

from learner.settings import LearnerSettings
from learner.store.database import Database
from learner.store.feedback import add_default_votes
from learner.store.generations import drop_contexts

ROWS_PER_TRANSACTION = 1000
DEFAULT_VOTE_REACH = timedelta(days=7)
"""Answers that have been due for longer are left alone: switching the default on is no vote on all of history."""


def cast_default_votes(database: Database, settings: LearnerSettings, now: datetime) -> int:
    """Record the configured vote for answers that waited long enough without one; the sweep has them learned.

    A real vote replaces the default whenever it comes.
    """
    if settings.default_vote is None:
        return 0
    due = now - timedelta(seconds=settings.default_vote_wait_seconds)
    cast = 0
    while True:
        with database.session() as session:
            added = add_default_votes(
                session, settings.default_vote, due - DEFAULT_VOTE_REACH, due, ROWS_PER_TRANSACTION, now
            )
        cast += added
        if added < ROWS_PER_TRANSACTION:
            return cast


def drop_old_contexts(database: Database, settings: LearnerSettings, now: datetime) -> int:
    """Delete token contexts past their retention; the answers themselves stay."""
    before = now - timedelta(days=settings.context_retention_days)
    total = 0
    while True:
        with database.session() as session:
            dropped = drop_contexts(session, before, ROWS_PER_TRANSACTION)
        total += dropped
        if dropped < ROWS_PER_TRANSACTION:
            return total
