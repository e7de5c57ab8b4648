"""A replay finds everything as it should be, however it came about, and names every scope that was tampered with."""

import numpy as np
import pytest
from sqlalchemy import text

from learner.learning import learn
from learner.replay import ANONYMOUS, EVIDENCE, MISSING, OTHER_CONSTANTS, SHARES, WEIGHTS, ReplayReport, replay
from learner.settings import LearnerSettings
from learner.store.feedback import expire_votes, retract_vote
from tests.learner.conftest import Tenancy, now

USERS = ("a", "b", "loud", None)


def run(tenancy: Tenancy, settings: LearnerSettings) -> ReplayReport:
    return replay(tenancy.database, settings, lambda done, total: None)


def learn_all(tenancy: Tenancy, settings: LearnerSettings) -> None:
    for user in USERS:
        learn(tenancy.database, tenancy.scope(user), settings, now())


@pytest.fixture
def capped(learner_settings: LearnerSettings) -> LearnerSettings:
    return learner_settings.model_copy(update={"feedbacks_per_user_in_tenant": 5, "feedbacks_per_transaction": 7})


@pytest.fixture
def lived(tenancy: Tenancy, capped: LearnerSettings) -> Tenancy:
    """A tenant with a past: votes, changes, retractions, expiries, folds, an unlearned rest."""
    random = np.random.default_rng(3)
    receipts = []
    for _ in range(6):
        for user in USERS:
            receipts += tenancy.votes(4, user)
        learn_all(tenancy, capped)
        for place in random.integers(len(receipts), size=4):
            with tenancy.database.session() as session:
                retract_vote(session, tenancy.tenant_id, receipts[place].feedback_id, now())
    with tenancy.database.session() as session:
        expire_votes(session, tenancy.scope("b"), now(), keep_newest=5)
    learn(tenancy.database, tenancy.scope("b"), capped, now())
    tenancy.votes(3, "a")
    return tenancy


def test_nothing_differs_after_an_eventful_life(lived: Tenancy, capped: LearnerSettings) -> None:
    steps: list[tuple[int, int]] = []
    report = replay(lived.database, capped, lambda done, total: steps.append((done, total)))
    assert report.differences == report.skipped == ()
    assert report.compared == 4
    assert report.votes > 60
    assert steps[-1] == (4, 4)
    learn_all(lived, capped)
    assert run(lived, capped).differences == ()


@pytest.mark.parametrize(
    ("tampering", "user", "found"),
    [
        ("UPDATE learner_states SET linear[1] = linear[1] + 1 WHERE user_id = 'a'", "a", {EVIDENCE}),
        ("UPDATE learner_states SET precision[2] = precision[2] - 1 WHERE user_id = ''", None, {EVIDENCE}),
        ("UPDATE anonymous_evidence SET linear[1] = linear[1] + 1", None, {ANONYMOUS}),
        ("UPDATE tenant_shares SET linear[1] = linear[1] + 1 WHERE user_id = 'a'", None, {SHARES, EVIDENCE, WEIGHTS}),
        ("UPDATE parameter_versions SET theta[1] = theta[1] + 1e-15 WHERE user_id = 'a'", "a", {WEIGHTS}),
        ("UPDATE feedback SET learned_value = NULL WHERE id = (SELECT min(id) FROM feedback WHERE user_id = 'a'"
         " AND learned_value IS NOT NULL)", "a", {EVIDENCE, WEIGHTS}),
        ("DELETE FROM learner_states WHERE user_id = 'a'", "a", {MISSING}),
    ],
)  # fmt: skip
def test_tampering_is_found_and_named(
    lived: Tenancy, capped: LearnerSettings, tampering: str, user: str | None, found: set[str]
) -> None:
    learn_all(lived, capped)
    with lived.database.session() as session:
        session.execute(text(tampering))
    report = run(lived, capped)
    named = {finding.what.format(user="a") for finding in report.differences if finding.scope == lived.scope(user)}
    assert {what.format(user="a") for what in found} <= named


def test_what_was_learned_with_other_settings_is_skipped_and_said(lived: Tenancy, capped: LearnerSettings) -> None:
    wider = capped.model_copy(update={"coefficient_limit": 4.0})
    report = run(lived, wider)
    assert report.differences == ()
    assert {finding.what for finding in report.skipped} == {OTHER_CONSTANTS}
    learn(lived.database, lived.scope("a"), wider, now())
    report = run(lived, wider)
    assert (report.differences, report.compared) == ((), 1)
