"""Scopes that fail: set aside with a growing pause, visible, and never in the way of the others."""

from datetime import timedelta

from sqlalchemy import text

from learner.attempts import try_to_learn
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.status import learner_status
from learner.store.database import Database
from learner.store.failures import failing_scopes, find_failure
from learner.store.learning import scopes_with_news
from learner.store.models import LearningFailure
from tests.learner.conftest import Tenancy, now

FIRST, LONGEST = 5.0, 30.0


def patient(settings: LearnerSettings) -> LearnerSettings:
    return settings.model_copy(update={"retry_first_seconds": FIRST, "retry_longest_seconds": LONGEST})


def break_scope(tenancy: Tenancy, settings: LearnerSettings, user: str) -> None:
    """Evidence too large to add anything to."""
    with tenancy.database.session() as session:
        session.execute(
            text(
                "INSERT INTO learner_states (tenant_id, user_id, constants, version, shared_version, updated_at,"
                " principals, precision, linear, feedback_count)"
                " VALUES (:tenant, :user, :constants, 0, 0, now(), '{}', ARRAY[:huge], ARRAY[:huge], 0)"
            ),
            {
                "tenant": tenancy.tenant_id,
                "user": user,
                "constants": settings.constants.evidence_fingerprint,
                "huge": 2**62,
            },
        )


def failure_of(database: Database, scope: Scope) -> LearningFailure | None:
    with database.session() as session:
        return find_failure(session, scope)


def test_the_pause_doubles_up_to_the_longest(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    settings, scope, begun = patient(learner_settings), tenancy.scope("broken"), now()
    tenancy.votes(1, "broken")
    break_scope(tenancy, settings, "broken")
    due, pauses = begun, []
    for _ in range(5):
        assert try_to_learn(tenancy.database, scope, settings, due) is None
        failure = failure_of(tenancy.database, scope)
        assert failure is not None
        pauses.append((failure.next_attempt_at - due).total_seconds())
        due = failure.next_attempt_at
    assert pauses == [5, 10, 20, 30, 30]
    assert failure.attempts == 5
    assert failure.error.startswith("EvidenceOverflow: ")


def test_a_scope_that_waits_is_not_tried_and_not_swept_up(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    settings, scope, begun = patient(learner_settings), tenancy.scope("broken"), now()
    tenancy.votes(1, "broken")
    tenancy.votes(1, "sound")
    break_scope(tenancy, settings, "broken")
    try_to_learn(tenancy.database, scope, settings, begun)
    try_to_learn(tenancy.database, scope, settings, begun + timedelta(seconds=1))
    failure = failure_of(tenancy.database, scope)
    assert failure is not None
    assert failure.attempts == 1
    with tenancy.database.session() as session:
        assert scopes_with_news(session, now(), begun + timedelta(seconds=1), 1) == [tenancy.scope("sound")]
        later = scopes_with_news(session, now(), begun + timedelta(seconds=6), 10)
    assert scope in later


def test_a_scope_that_recovers_is_forgotten(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    settings, scope, begun = patient(learner_settings), tenancy.scope("broken"), now()
    tenancy.votes(2, "broken")
    break_scope(tenancy, settings, "broken")
    try_to_learn(tenancy.database, scope, settings, begun)
    with tenancy.database.session() as session:
        status = learner_status(session, now())
        assert [each.scope for each in status.failing] == [scope]
        assert (status.failing_count, status.unlearned_votes, status.lag_seconds) == (1, 2, 0.0)
        assert status.oldest_unlearned_seconds > 0
        session.execute(text("DELETE FROM learner_states"))
    outcome = try_to_learn(tenancy.database, scope, settings, begun + timedelta(seconds=6))
    assert outcome is not None
    assert outcome.folded_votes == 2
    with tenancy.database.session() as session:
        assert failing_scopes(session, 10) == []
        status = learner_status(session, now())
    assert (status.unlearned_votes, status.versions, status.untaken_users) == (0, 1, 1)


def test_the_failure_of_a_tenant_that_is_gone_is_no_failure(
    tenancy: Tenancy, learner_settings: LearnerSettings
) -> None:
    assert try_to_learn(tenancy.database, Scope("ten_gone", "u"), learner_settings, now()) is None
    with tenancy.database.session() as session:
        assert failing_scopes(session, 10) == []
