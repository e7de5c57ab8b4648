"""Housekeeping, now and then: votes for answers that never got one; contexts and words past their time."""

from datetime import datetime, timedelta

from learner.settings import LearnerSettings
from learner.store.database import Database
from learner.store.feedback import add_default_votes
from learner.store.generations import drop_contexts
from learner.store.idempotency import drop_expired
from learner.store.transcripts import blank_transcripts, drop_transcripts

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


def drop_old_transcripts(database: Database, now: datetime) -> int:
    """Delete stored words and traces past their tenant's retention, or that it does not want kept any more."""
    total = 0
    while True:
        with database.session() as session:
            dropped = drop_transcripts(session, now, ROWS_PER_TRANSACTION)
            blanked = blank_transcripts(session, ROWS_PER_TRANSACTION)
        total += dropped + blanked
        if max(dropped, blanked) < ROWS_PER_TRANSACTION:
            return total


def drop_old_requests(database: Database, now: datetime) -> int:
    """Delete answers that were kept for requests repeated under an idempotency key, past their time."""
    total = 0
    while True:
        with database.session() as session:
            dropped = drop_expired(session, now, ROWS_PER_TRANSACTION)
        total += dropped
        if dropped < ROWS_PER_TRANSACTION:
            return total
