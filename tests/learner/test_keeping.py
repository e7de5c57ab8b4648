"""Votes for answers that never got one, and token contexts past their time."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from learner.keeping import cast_default_votes, drop_old_contexts
from learner.learning import learn
from learner.settings import LearnerSettings
from learner.store.feedback import get_feedback, retract_vote
from learner.store.generations import newest_contexts
from learner.store.models import Feedback
from tests.learner.conftest import PRINCIPALS, Tenancy, now

WAIT = timedelta(hours=1)


@pytest.fixture
def defaulting(learner_settings: LearnerSettings) -> LearnerSettings:
    return learner_settings.model_copy(update={"default_vote": -1, "default_vote_wait_seconds": WAIT.total_seconds()})


def votes_on_record(tenancy: Tenancy) -> list[Feedback]:
    with tenancy.database.session() as session:
        return list(session.query(Feedback).order_by(Feedback.created_at, Feedback.id))


def test_nothing_is_assumed_unless_it_is_configured(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    tenancy.answer("u")
    assert cast_default_votes(tenancy.database, learner_settings, now() + 2 * WAIT) == 0
    assert votes_on_record(tenancy) == []


def test_an_answer_gets_the_default_once_after_its_wait(tenancy: Tenancy, defaulting: LearnerSettings) -> None:
    tenancy.vote(tenancy.answer("u"), 1)
    tenancy.answer("u")
    tenancy.answer(None)
    assert cast_default_votes(tenancy.database, defaulting, now() + WAIT / 2) == 0
    assert cast_default_votes(tenancy.database, defaulting, now() + 2 * WAIT) == 2
    assert cast_default_votes(tenancy.database, defaulting, now() + 2 * WAIT) == 0
    assert sorted((vote.user_id, vote.value, vote.implied) for vote in votes_on_record(tenancy)) == [
        ("", -1, True),
        ("u", -1, True),
        ("u", 1, False),
    ]
    outcome = learn(tenancy.database, tenancy.scope("u"), defaulting, now())
    assert outcome is not None
    assert outcome.folded_votes == 2


def test_switching_it_on_is_no_vote_on_all_of_history(tenancy: Tenancy, defaulting: LearnerSettings) -> None:
    tenancy.answer("u")
    assert cast_default_votes(tenancy.database, defaulting, now() + timedelta(days=8)) == 0


@pytest.mark.parametrize("value", [1, -1])
def test_a_real_vote_replaces_the_default_and_is_no_duplicate(
    tenancy: Tenancy, defaulting: LearnerSettings, value: int
) -> None:
    answer = tenancy.answer("u")
    cast_default_votes(tenancy.database, defaulting, now() + 2 * WAIT)
    learn(tenancy.database, tenancy.scope("u"), defaulting, now())
    receipt = tenancy.vote(answer, value)
    assert receipt.duplicate is False
    assert tenancy.vote(answer, value).duplicate is True
    (vote,) = votes_on_record(tenancy)
    assert (vote.id, vote.value, vote.implied) == (receipt.feedback_id, value, False)
    outcome = learn(tenancy.database, tenancy.scope("u"), defaulting, now())
    assert (outcome is None) == (value == -1)
    with tenancy.database.session() as session:
        retract_vote(session, tenancy.tenant_id, receipt.feedback_id, now())
    assert cast_default_votes(tenancy.database, defaulting, now() + 2 * WAIT) == 0
    with tenancy.database.session() as session:
        assert get_feedback(session, tenancy.tenant_id, receipt.feedback_id).value is None


def test_the_environment_names_the_default(monkeypatch: pytest.MonkeyPatch, learner_settings: LearnerSettings) -> None:
    for given, meant in {"up": 1, "down": -1, "none": None, "": None}.items():
        monkeypatch.setenv("CAGE_DEFAULT_VOTE", given)
        settings = LearnerSettings(database_url=learner_settings.database_url, redis_url=learner_settings.redis_url)
        assert settings.default_vote == meant


def test_contexts_are_bounded_and_forgotten(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    for number in range(5):
        answer = tenancy.answer("u" if number % 2 else "v")
        context = '[{"base_log_probs": [-0.5, -0.9], "rewards": [[0.1, 0.2], [0.3, 0.4], [0, 0], [1, 2]]}]'
        with tenancy.database.session() as session:
            session.execute(
                text("UPDATE generations SET contexts = cast(:context AS jsonb) WHERE id = :id"),
                {"context": context, "id": answer},
            )
    with tenancy.database.session() as session:
        assert len(newest_contexts(session, tenancy.scope(), 4)) == 4
        own = newest_contexts(session, tenancy.scope("u"), 100)
    assert len(own) == 2
    assert own[0].principals == PRINCIPALS
    assert own[0].rewards[3] == [1, 2]
    assert drop_old_contexts(tenancy.database, learner_settings, now() + timedelta(days=29)) == 0
    assert drop_old_contexts(tenancy.database, learner_settings, now() + timedelta(days=31)) == 5
    with tenancy.database.session() as session:
        assert newest_contexts(session, tenancy.scope(), 4) == []
