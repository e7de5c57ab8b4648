"""Learning on a real database: exactly once, in any order, reversible."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import text

from learner.evidence import Evidence, accumulate
from learner.learning import learn
from learner.measuring import measure_regret
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store.evidence import evidence_of
from learner.store.feedback import expire_votes, retract_vote
from learner.store.learning import (
    every_learned_observation,
    learned_observations,
    lock_state,
    mark_learned,
    scopes_with_news,
    unlearned_votes,
)
from learner.store.models import LearnerState
from learner.store.parameters import effective_parameters, load_parameters
from learner.store.regret import regret_series
from tests.learner.conftest import PRINCIPALS, Tenancy, now

MANY = 10**6


def evidence_on_record(tenancy: Tenancy, user: str | None) -> Evidence:
    scope = tenancy.scope(user)
    with tenancy.database.session() as session:
        state = session.get(LearnerState, (scope.tenant_id, scope.user_key))
        return Evidence.none() if state is None else evidence_of(state)


def evidence_from_votes(tenancy: Tenancy, settings: LearnerSettings, user: str) -> Evidence:
    """What the votes in the table say, computed afresh."""
    with tenancy.database.session() as session:
        waiting = unlearned_votes(session, tenancy.scope(user), MANY)
        learned = learned_observations(session, tenancy.scope(user), MANY)
    assert waiting == []
    return accumulate(learned, settings.constants)


def evidence_from_votes_of_nobody(tenancy: Tenancy, settings: LearnerSettings) -> Evidence:
    with tenancy.database.session() as session:
        return accumulate(list(every_learned_observation(session, tenancy.scope())), settings.constants)


def learn_now(tenancy: Tenancy, settings: LearnerSettings, user: str | None):  # type: ignore[no-untyped-def]
    return learn(tenancy.database, tenancy.scope(user), settings, now())


def test_learning_makes_a_version_that_rests_on_the_votes(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    receipts = tenancy.votes(12, "u")
    outcome = learn_now(tenancy, learner_settings, "u")
    assert outcome.folded_votes == 12
    assert (outcome.parameters.version, outcome.parameters.feedback_count) == (1, 12)
    assert outcome.parameters.principals == PRINCIPALS
    assert sum(outcome.parameters.weights) == pytest.approx(1.0)
    with tenancy.database.session() as session:
        assert load_parameters(session, tenancy.scope("u")) == outcome.parameters
        first = session.execute(
            text("SELECT updated_at, learned_version FROM feedback WHERE id = :id"), {"id": receipts[0].feedback_id}
        ).one()
    assert first.updated_at == outcome.parameters.oldest_feedback_at
    assert first.learned_version == 1


def test_learning_twice_changes_nothing(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    tenancy.votes(5, "u")
    first = learn_now(tenancy, learner_settings, "u")
    assert learn_now(tenancy, learner_settings, "u") is None
    with tenancy.database.session() as session:
        assert effective_parameters(session, tenancy.scope("u")) == first.parameters


def test_nothing_to_learn_leaves_no_row(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    assert learn_now(tenancy, learner_settings, "u") is None
    with tenancy.database.session() as session:
        assert session.scalar(text("SELECT count(*) FROM learner_states")) == 0


@pytest.mark.parametrize("seed", range(4))
def test_any_history_ends_in_the_evidence_of_the_votes_that_stand(
    tenancy: Tenancy, learner_settings: LearnerSettings, seed: int
) -> None:
    """Votes, changes, retractions, expiries and folds in random order, some of them repeated."""
    random = np.random.default_rng(seed)
    small_batches = learner_settings.model_copy(update={"feedbacks_per_transaction": 3})
    receipts = [(tenancy.answer("u"), "") for _ in range(8)]
    for _ in range(60):
        place = int(random.integers(len(receipts)))
        answer, feedback_id = receipts[place]
        match random.choice(["vote", "vote", "retract", "expire", "learn"]):
            case "vote":
                receipts[place] = (answer, tenancy.vote(answer, int(random.choice([-1, 1]))).feedback_id)
            case "retract" if feedback_id:
                with tenancy.database.session() as session:
                    retract_vote(session, tenancy.tenant_id, feedback_id, now())
            case "expire" if random.random() < 0.2:
                with tenancy.database.session() as session:
                    expire_votes(session, tenancy.scope("u"), now(), keep_newest=4)
            case "learn":
                learn_now(tenancy, small_batches, "u")
    learn_now(tenancy, small_batches, "u")
    expected = evidence_from_votes(tenancy, learner_settings, "u")
    assert evidence_on_record(tenancy, "u").over(PRINCIPALS) == expected.over(PRINCIPALS)


def test_taking_every_vote_back_restores_the_prior(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    receipts = tenancy.votes(10, "u")
    learn_now(tenancy, learner_settings, "u")
    with tenancy.database.session() as session:
        for receipt in receipts:
            retract_vote(session, tenancy.tenant_id, receipt.feedback_id, now())
    outcome = learn_now(tenancy, learner_settings, "u")
    assert outcome.parameters.feedback_count == 0
    assert outcome.parameters.theta == pytest.approx((0.25,) * 4 + (0.0,), abs=1e-15)
    assert evidence_on_record(tenancy, "u") == Evidence.none().over(PRINCIPALS)


def test_votes_and_learners_at_once_count_each_vote_once(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    answers = [tenancy.answer("u") for _ in range(60)]
    done = threading.Event()

    def learner() -> int:
        folded = 0
        while not done.is_set():
            outcome = learn_now(tenancy, learner_settings, "u")
            folded += 0 if outcome is None else 1
        return folded

    with ThreadPoolExecutor(7) as threads:
        learners = [threads.submit(learner) for _ in range(3)]
        voting = [threads.submit(tenancy.vote, answer, value) for answer in answers for value in (1, -1)]
        for vote in voting:
            vote.result()
        done.set()
        assert sum(each.result() for each in learners) > 1
    learn_now(tenancy, learner_settings, "u")
    record = evidence_on_record(tenancy, "u")
    assert record.feedback_count == 60
    assert record == evidence_from_votes(tenancy, learner_settings, "u")


def test_a_vote_that_changes_while_it_is_folded_stays_unlearned(
    tenancy: Tenancy, learner_settings: LearnerSettings
) -> None:
    answer = tenancy.answer("u")
    tenancy.vote(answer, 1)
    with tenancy.database.session() as session:
        lock_state(session, tenancy.scope("u"), learner_settings.constants.evidence_fingerprint, now())
        read = unlearned_votes(session, tenancy.scope("u"), MANY)
        tenancy.vote(answer, -1)
        mark_learned(session, read, 1, now())
    with tenancy.database.session() as session:
        (waiting,) = unlearned_votes(session, tenancy.scope("u"), MANY)
    assert waiting.learned is not None
    assert waiting.counted is not None
    assert (waiting.learned.value, waiting.counted.value) == (1, -1)


def test_a_late_vote_teaches_what_a_prompt_one_would(
    make_tenancy: Callable[[str], Tenancy], learner_settings: LearnerSettings
) -> None:
    """The parameters logged with the answer count, not those in force when the vote arrives."""
    results = []
    for name, late in (("prompt", False), ("late", True)):
        tenancy = make_tenancy(name)
        answers = [tenancy.answer("u") for _ in range(6)]
        for number, answer in enumerate(answers[::-1] if late else answers):
            tenancy.vote(answer, 1 if answers.index(answer) % 2 else -1)
            if number % 2:
                learn_now(tenancy, learner_settings, "u")
        results.append(evidence_on_record(tenancy, "u"))
    assert results[0] == results[1]


def test_the_tenant_learns_from_its_users_up_to_the_cap(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    capped = learner_settings.model_copy(update={"feedbacks_per_user_in_tenant": 5})
    tenancy.votes(40, "loud")
    tenancy.votes(3, "quiet")
    tenancy.votes(2)
    for user in ("loud", "quiet", None):
        learn_now(tenancy, capped, user)
    own = evidence_from_votes(tenancy, capped, "loud").capped(5) + evidence_from_votes(tenancy, capped, "quiet")
    with tenancy.database.session() as session:
        everyone = learned_observations(session, tenancy.scope(), MANY)
        named = [*learned_observations(session, tenancy.scope("loud"), MANY)]
        named += learned_observations(session, tenancy.scope("quiet"), MANY)
    anonymous = accumulate(everyone, capped.constants) - accumulate(named, capped.constants)
    assert evidence_on_record(tenancy, None) == own + anonymous
    assert evidence_on_record(tenancy, None).feedback_count == 10
    assert learn_now(tenancy, capped, None) is None


def test_leaving_the_user_out_does_not_get_round_the_cap(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    capped = learner_settings.model_copy(update={"feedbacks_per_user_in_tenant": 5, "feedbacks_per_transaction": 9})
    tenancy.votes(3, "quiet")
    for user in ("quiet", None):
        learn_now(tenancy, capped, user)
    before = evidence_on_record(tenancy, None)
    receipts = tenancy.votes(40)
    learn_now(tenancy, capped, None)
    anonymous = evidence_from_votes_of_nobody(tenancy, capped)
    assert anonymous.feedback_count == 40
    assert evidence_on_record(tenancy, None) == before + anonymous.capped(5)
    with tenancy.database.session() as session:
        for receipt in receipts:
            retract_vote(session, tenancy.tenant_id, receipt.feedback_id, now())
    learn_now(tenancy, capped, None)
    assert evidence_on_record(tenancy, None) == before


def test_another_cap_rebuilds_the_tenant(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    for user in ("u", None):
        tenancy.votes(20, user)
        learn_now(tenancy, learner_settings, user)
    capped = learner_settings.model_copy(update={"feedbacks_per_user_in_tenant": 4})
    tenancy.votes(1)
    learn_now(tenancy, capped, None)
    own = evidence_from_votes(tenancy, capped, "u").capped(4)
    assert evidence_on_record(tenancy, None) == own + evidence_from_votes_of_nobody(tenancy, capped).capped(4)


def test_what_a_user_takes_back_leaves_the_tenant_too(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    tenancy.votes(4, "stays")
    learn_now(tenancy, learner_settings, "stays")
    learn_now(tenancy, learner_settings, None)
    before = evidence_on_record(tenancy, None)
    tenancy.votes(20, "leaves")
    for user in ("leaves", None):
        learn_now(tenancy, learner_settings, user)
    assert evidence_on_record(tenancy, None) != before
    with tenancy.database.session() as session:
        assert expire_votes(session, tenancy.scope("leaves"), now()) == 20
    for user in ("leaves", None):
        learn_now(tenancy, learner_settings, user)
    assert evidence_on_record(tenancy, None) == before


def test_a_new_user_starts_from_what_the_tenant_learned(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    for user in ("a", "b"):
        for _ in range(10):
            tenancy.vote(tenancy.answer(user, (0.0, 0.0, 1.5, 0.0)), 1)
            tenancy.vote(tenancy.answer(user, (0.0, 0.0, -1.5, 0.0)), -1)
        learn_now(tenancy, learner_settings, user)
    tenant = learn_now(tenancy, learner_settings, None).parameters
    assert tenant.weights[2] > 0.5
    with tenancy.database.session() as session:
        assert effective_parameters(session, tenancy.scope("newcomer")) == tenant
    tenancy.vote(tenancy.answer("newcomer", (0.0, 0.0, 0.0, 0.0)), 1)
    newcomer = learn_now(tenancy, learner_settings, "newcomer").parameters
    assert newcomer.theta[:-1] == pytest.approx(tenant.theta[:-1], abs=1e-9)


def test_a_users_own_votes_are_not_in_its_prior(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    """Alone in its tenant, a user's parameters are the same before and after the tenant took them over."""
    tenancy.votes(15, "u")
    before = learn_now(tenancy, learner_settings, "u").parameters
    learn_now(tenancy, learner_settings, None)
    extra = tenancy.vote(tenancy.answer("u"), 1)
    learn_now(tenancy, learner_settings, "u")
    with tenancy.database.session() as session:
        retract_vote(session, tenancy.tenant_id, extra.feedback_id, now())
    after = learn_now(tenancy, learner_settings, "u").parameters
    assert after.theta == before.theta


def test_other_constants_rebuild_the_evidence(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    for user in ("u", None):
        tenancy.votes(8, user)
        learn_now(tenancy, learner_settings, user)
    wider = learner_settings.model_copy(update={"coefficient_limit": 4.0})
    for user in ("u", None):
        tenancy.votes(1, user)
        learn_now(tenancy, wider, user)
    rebuilt = evidence_from_votes(tenancy, wider, "u")
    assert evidence_on_record(tenancy, "u") == rebuilt
    with tenancy.database.session() as session:
        everyone = accumulate(learned_observations(session, tenancy.scope(), MANY), wider.constants)
    assert evidence_on_record(tenancy, None) == everyone


def test_a_window_forgets_the_oldest_votes(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    windowed = learner_settings.model_copy(update={"window_feedbacks": 5})
    for _ in range(4):
        tenancy.votes(3, "u")
        learn_now(tenancy, windowed, "u")
    assert evidence_on_record(tenancy, "u").feedback_count == 5
    assert evidence_on_record(tenancy, "u") == evidence_from_votes(tenancy, windowed, "u")


def test_principals_may_change_between_answer_and_vote(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    tenancy.votes(6, "u")
    learn_now(tenancy, learner_settings, "u")
    answer = tenancy.answer("u")
    with tenancy.database.session() as session:
        session.execute(text("DELETE FROM tenant_principals WHERE principal_name = 'warmth'"))
        session.execute(text("INSERT INTO principals VALUES ('candour', 'prompt', '', 1.0)"))
        session.execute(
            text("INSERT INTO tenant_principals VALUES (:tenant, 'candour', 9, 0.25)"), {"tenant": tenancy.tenant_id}
        )
    tenancy.vote(answer, 1)
    learned = learn_now(tenancy, learner_settings, "u").parameters
    assert learned.principals == ("detail", "brevity", "caution", "candour")
    tenancy.votes(3, "u")
    assert learn_now(tenancy, learner_settings, "u").parameters.feedback_count == 10
    assert "warmth" in evidence_on_record(tenancy, "u").principals
    assert evidence_on_record(tenancy, "u") == evidence_from_votes(tenancy, learner_settings, "u")


def test_the_sweep_finds_what_no_message_came_for(
    make_tenancy: Callable[[str], Tenancy], learner_settings: LearnerSettings
) -> None:
    first, second = make_tenancy("first"), make_tenancy("second")
    begun = now()
    first.votes(2, "u")
    second.votes(1)
    with first.database.session() as session:
        assert scopes_with_news(session, begun, now(), 10) == []
        found = scopes_with_news(session, now(), now(), 10)
    assert sorted(found, key=str) == sorted([first.scope("u"), second.scope()], key=str)
    for tenancy, user in ((first, "u"), (second, None)):
        learn_now(tenancy, learner_settings, user)
    with first.database.session() as session:
        assert scopes_with_news(session, now(), now(), 10) == [Scope(first.tenant_id)]
    learn_now(first, learner_settings, None)
    with first.database.session() as session:
        assert scopes_with_news(session, now(), now(), 10) == []


def test_regret_is_measured_with_each_version_and_then_ever_less_often(
    tenancy: Tenancy, learner_settings: LearnerSettings
) -> None:
    for _ in range(5):
        tenancy.votes(2, "u")
        learn_now(tenancy, learner_settings, "u")
        regret = measure_regret(tenancy.database, tenancy.scope("u"), learner_settings, now())
        assert regret is not None
        assert regret.regret <= regret.bound + 1e-6
        assert measure_regret(tenancy.database, tenancy.scope("u"), learner_settings, now()) is None
    with tenancy.database.session() as session:
        points = regret_series(session, tenancy.scope("u"), 10)
        session.execute(text("UPDATE learner_states SET version = 105"))
    assert [point.feedback_count for point in points] == [2, 4, 6, 8, 10]
    assert points[-1].regret == regret.regret
    tenancy.votes(1, "u")
    learn_now(tenancy, learner_settings, "u")
    assert measure_regret(tenancy.database, tenancy.scope("u"), learner_settings, now()) is not None
    tenancy.votes(1, "u")
    learn_now(tenancy, learner_settings, "u")
    assert measure_regret(tenancy.database, tenancy.scope("u"), learner_settings, now()) is None


def test_a_tenants_regret_covers_all_its_users(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    tenancy.votes(4, "a")
    tenancy.votes(3, "b")
    for user in ("a", "b", None):
        learn_now(tenancy, learner_settings, user)
    regret = measure_regret(tenancy.database, tenancy.scope(), learner_settings, now())
    assert regret is not None
    assert regret.feedback_count == 7
