"""Erasing a user: no trace of it, and everybody else exactly as if it had never been there."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import pytest
import redis
from sqlalchemy import func, select, text

from learner import tasks
from learner.erasing import Erasure, clear_traces, erase_user, work_out_reserves_again
from learner.errors import UnknownGeneration
from learner.evidence import Evidence
from learner.learning import learn
from learner.messages import discard_messages
from learner.publishing import fetch, publish, store
from learner.replay import replay
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store.evidence import evidence_of
from learner.store.feedback import retract_vote
from learner.store.generations import add_generation
from learner.store.models import Base, Feedback, Generation, IdempotentRequest, LearnerState, Transcript
from learner.store.parameters import effective_parameters, load_parameters
from learner.store.transcripts import may_be_logged
from tests.learner.conftest import Tenancy, now
from tests.traces import everything_in, rows_naming

GONE = "user-who-leaves"
USERS = ("a", "b", "loud", None, GONE)
CONTEXT = {"base_log_probs": [-0.7, -0.7], "rewards": [[1.0, 0.0], [0.0, 1.0], [0.5, 0.0], [0.0, 0.5]]}


@pytest.fixture
def settings(learner_settings: LearnerSettings) -> LearnerSettings:
    """A low cap and small batches, so that both matter."""
    return learner_settings.model_copy(update={"feedbacks_per_user_in_tenant": 5, "feedbacks_per_transaction": 7})


def erase(tenancy: Tenancy, settings: LearnerSettings, user: str = GONE) -> Erasure:
    with tenancy.database.session(tenancy.tenant_id) as session:
        return erase_user(session, tenancy.scope(user), settings, now())


def learn_all(tenancy: Tenancy, settings: LearnerSettings) -> None:
    for user in sorted(USERS, key=str):
        learn(tenancy.database, tenancy.scope(user), settings, now())
    learn(tenancy.database, tenancy.scope(), settings, now())


def evidence_on_record(tenancy: Tenancy, user: str | None) -> Evidence:
    scope = tenancy.scope(user)
    with tenancy.database.session() as session:
        state = session.get(LearnerState, (scope.tenant_id, scope.user_key))
        return Evidence.none() if state is None else evidence_of(state)


def live(tenancy: Tenancy, settings: LearnerSettings, seed: int) -> None:
    """Users ask, vote on their own and on others' answers, change their minds; learning comes when it comes."""
    random = np.random.default_rng(seed)
    answers, receipts = list[str](), []
    for _ in range(5):
        for user in USERS:
            for _ in range(int(random.integers(1, 5))):
                answers.append(tenancy.answer(user))
                receipts.append(tenancy.vote(answers[-1], int(random.choice([-1, 1]))))
        for voter in USERS:
            places = random.integers(len(answers), size=3)
            receipts += [tenancy.vote(answers[place], int(random.choice([-1, 1])), voter) for place in places]
        for place in random.integers(len(receipts), size=3):
            with tenancy.database.session() as session:
                retract_vote(session, tenancy.tenant_id, receipts[place].feedback_id, now())
        for user in USERS:
            if random.random() < 0.7:
                learn(tenancy.database, tenancy.scope(user), settings, now())


def twin_without(tenancy: Tenancy, twin: Tenancy, user: str) -> None:
    """Give another tenant the same answers and votes, but for those of a user and on the user's answers."""
    with tenancy.database.session() as session:
        generations = session.scalars(select(Generation).where(Generation.tenant_id == tenancy.tenant_id)).all()
        votes = session.scalars(select(Feedback).where(Feedback.tenant_id == tenancy.tenant_id)).all()
        kept = {each.id for each in generations if each.user_id != user}
        for each in generations:
            if each.id in kept:
                session.add(copied(each, id=f"twin-{each.id}", tenant_id=twin.tenant_id))
        session.flush()
        for vote in votes:
            if vote.generation_id in kept and vote.user_id != user:
                session.add(
                    copied(
                        vote,
                        id=f"twin-{vote.id}",
                        tenant_id=twin.tenant_id,
                        generation_id=f"twin-{vote.generation_id}",
                        learned_value=None,
                        learned_at=None,
                        learned_version=None,
                    )
                )


def copied(row: Base, **changes: object) -> Base:
    names = [column.name for column in row.__table__.columns if column.computed is None]
    return type(row)(**{name: getattr(row, name) for name in names} | changes)


@pytest.mark.parametrize("seed", range(5))
def test_everybody_else_is_as_if_the_user_had_never_been(
    make_tenancy: Callable[[str], Tenancy], settings: LearnerSettings, seed: int
) -> None:
    tenancy, twin = make_tenancy("first"), make_tenancy("second")
    live(tenancy, settings, seed)
    if seed % 2:
        learn_all(tenancy, settings)
    twin_without(tenancy, twin, GONE)
    erased = erase(tenancy, settings)
    assert erased.deleted["generations"] > 0
    learn_all(tenancy, settings)
    learn_all(twin, settings)
    with tenancy.database.session() as session:
        left, other = effective_parameters(session, tenancy.scope()), effective_parameters(session, twin.scope())
    assert (left.theta, left.weights) == (other.theta, other.weights)
    for user in ("a", "b", "loud", None):
        assert evidence_on_record(tenancy, user) == evidence_on_record(twin, user)
    report = replay(tenancy.database, settings, lambda done, total: None)
    assert (report.differences, report.skipped) == ((), ())


def test_weights_are_right_before_anything_else_is_learned(
    make_tenancy: Callable[[str], Tenancy], settings: LearnerSettings
) -> None:
    tenancy, twin = make_tenancy("first"), make_tenancy("second")
    live(tenancy, settings, seed=11)
    learn_all(tenancy, settings)
    twin_without(tenancy, twin, GONE)
    learn_all(twin, settings)
    erased = erase(tenancy, settings)
    assert erased.tenant_version_after == erased.tenant_version_before + 1
    with tenancy.database.session() as session:
        left, other = load_parameters(session, tenancy.scope()), load_parameters(session, twin.scope())
    assert left is not None
    assert other is not None
    assert (left.theta, left.weights) == (other.theta, other.weights)
    assert left in erased.refolded


def test_no_row_names_the_user_afterwards(tenancy: Tenancy, settings: LearnerSettings) -> None:
    live(tenancy, settings, seed=5)
    learn_all(tenancy, settings)
    with tenancy.database.session() as session:
        answer = session.scalar(select(Generation.id).where(Generation.user_id == GONE).limit(1))
        session.add(Transcript(generation_id=answer, tenant_id=tenancy.tenant_id, created_at=now(), answer="secret"))
        session.add(
            IdempotentRequest(
                tenant_id=tenancy.tenant_id, key="k", fingerprint="f", user_id=GONE, created_at=now(), body={"a": "b"}
            )
        )
        session.execute(
            text(
                "INSERT INTO learning_failures (tenant_id, user_id, attempts, error, failed_at, next_attempt_at)"
                " VALUES (:tenant, :user, 1, 'e', now(), now())"
            ),
            {"tenant": tenancy.tenant_id, "user": GONE},
        )
    assert len(rows_naming(tenancy.database, GONE)) >= 7
    erased = erase(tenancy, settings)
    assert rows_naming(tenancy.database, GONE) == rows_naming(tenancy.database, "secret") == {}
    assert erased.deleted["transcripts"] == erased.deleted["idempotent_requests"] == 1
    assert erased.deleted["learning_failures"] == erased.deleted["learner_states"] == 1
    again = erase(tenancy, settings)
    assert sum(again.deleted.values()) == 0
    assert again.tenant_version_after == again.tenant_version_before
    assert rows_naming(tenancy.database, GONE) == {}


def test_no_single_vote_can_be_told_from_what_is_left_of_the_past(tenancy: Tenancy, settings: LearnerSettings) -> None:
    live(tenancy, settings, seed=5)
    learn_all(tenancy, settings)
    erase(tenancy, settings)
    with tenancy.database.session() as session:
        solved_from = session.scalar(
            text("SELECT count(*) FROM parameter_versions WHERE user_id = '' AND posterior IS NOT NULL")
        )
    assert solved_from == 1


def test_a_tenant_that_learned_from_nobody_else_is_back_at_its_configuration(
    tenancy: Tenancy, settings: LearnerSettings
) -> None:
    tenancy.votes(9, GONE)
    tenancy.vote(tenancy.answer(GONE), 1, "guest")
    for user in (GONE, "guest", None):
        learn(tenancy.database, tenancy.scope(user), settings, now())
    erased = erase(tenancy, settings)
    assert erased.tenant_version_before > 0
    assert erased.tenant_version_after == 0
    assert set(erased.forgotten) == {tenancy.scope(GONE), tenancy.scope("guest"), tenancy.scope()}
    with tenancy.database.session() as session:
        assert effective_parameters(session, tenancy.scope("guest")).version == 0
        assert session.scalar(select(func.count()).select_from(LearnerState)) == 0


def test_an_unknown_user_is_erased_to_no_effect(tenancy: Tenancy, settings: LearnerSettings) -> None:
    tenancy.votes(3, "a")
    learn_all(tenancy, settings)
    before = evidence_on_record(tenancy, None)
    erased = erase(tenancy, settings, "nobody")
    assert sum(erased.deleted.values()) == 0
    assert erased.tenant_version_after == erased.tenant_version_before
    assert evidence_on_record(tenancy, None) == before
    assert rows_naming(tenancy.database, "nobody") == {}


def test_an_erasure_that_dies_leaves_everything(tenancy: Tenancy, settings: LearnerSettings) -> None:
    live(tenancy, settings, seed=2)
    learn_all(tenancy, settings)
    before = rows_naming(tenancy.database, GONE)

    def die_before_the_commit() -> None:
        with tenancy.database.session(tenancy.tenant_id) as session:
            erase_user(session, tenancy.scope(GONE), settings, now())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        die_before_the_commit()
    assert rows_naming(tenancy.database, GONE) == before
    erase(tenancy, settings)
    assert rows_naming(tenancy.database, GONE) == {}


def test_an_erasure_waits_for_answers_that_are_being_logged_and_takes_them_along(
    tenancy: Tenancy, settings: LearnerSettings
) -> None:
    """Of a user of whom nothing was learned: there is no row of it to wait for."""
    with ThreadPoolExecutor(1) as threads:
        with tenancy.database.session() as session:
            in_force = effective_parameters(session, tenancy.scope(GONE))
            assert may_be_logged(session, tenancy.scope(GONE), in_force)
            erasing = threads.submit(erase, tenancy, settings)
            with pytest.raises(TimeoutError):
                erasing.result(0.5)
            add_generation(
                session, tenancy.generation("chatcmpl-late", GONE, in_force, (0.0,) * len(in_force.principals))
            )
        assert erasing.result(10).deleted["generations"] == 1
    assert rows_naming(tenancy.database, GONE) == {}


def test_an_answer_that_is_to_be_logged_waits_for_an_erasure(tenancy: Tenancy, settings: LearnerSettings) -> None:
    with tenancy.database.session() as session:
        in_force = effective_parameters(session, tenancy.scope(GONE))

    def ask() -> bool:
        with tenancy.database.session() as session:
            return may_be_logged(session, tenancy.scope(GONE), in_force)

    with ThreadPoolExecutor(2) as threads:
        with tenancy.database.session(tenancy.tenant_id) as session:
            erase_user(session, tenancy.scope(GONE), settings, now())
            asking = threads.submit(ask)
            with pytest.raises(TimeoutError):
                asking.result(0.5)
            with tenancy.database.session() as another:
                assert may_be_logged(another, tenancy.scope("somebody-else"), in_force)
        assert asking.result(10)


def test_erasing_among_learners_and_voters(tenancy: Tenancy, settings: LearnerSettings) -> None:
    """Learners and voters of all users run while one is erased again and again; nothing fails or comes out wrong."""
    stop = threading.Event()
    failures: list[BaseException] = []
    answers = [tenancy.answer(user) for user in ("a", "b", GONE) for _ in range(4)]

    def keep(action: Callable[[], object]) -> None:
        while not stop.is_set():
            try:
                action()
            except BaseException as error:
                failures.append(error)
                return

    def vote(voter: str) -> None:
        try:
            tenancy.vote(answers[np.random.default_rng().integers(len(answers))], 1, voter)
        except UnknownGeneration:
            answers.append(tenancy.answer(GONE))

    with ThreadPoolExecutor(8) as threads:
        for user in ("a", "b", GONE, None):
            threads.submit(keep, lambda user=user: learn(tenancy.database, tenancy.scope(user), settings, now()))
        for voter in ("a", "b", GONE):
            threads.submit(keep, lambda voter=voter: vote(voter))
        for _ in range(12):
            erase(tenancy, settings)
        stop.set()
    assert failures == []
    erase(tenancy, settings)
    assert rows_naming(tenancy.database, GONE) == {}
    for user in ("a", "b", None, None):
        learn(tenancy.database, tenancy.scope(user), settings, now())
    assert replay(tenancy.database, settings, lambda done, total: None).differences == ()


def test_what_was_learned_before_does_not_come_back_into_redis(
    tenancy: Tenancy, settings: LearnerSettings, redis_client: redis.Redis
) -> None:
    tenancy.votes(3, GONE)
    outcome = learn(tenancy.database, tenancy.scope(GONE), settings, now())
    assert outcome is not None
    publish(redis_client, outcome.parameters)
    assert clear_traces(redis_client, erase(tenancy, settings), settings)["parameters"] == 1
    assert not publish(redis_client, outcome.parameters)
    assert not store(redis_client, outcome.parameters)
    assert fetch(redis_client, tenancy.scope(GONE)) is None
    assert GONE.encode() not in everything_in(redis_client)
    tenancy.votes(1, GONE)
    anew = learn(tenancy.database, tenancy.scope(GONE), settings, now() + timedelta(seconds=1))
    assert anew is not None
    assert anew.parameters.version == 1
    assert publish(redis_client, anew.parameters)


def test_messages_about_the_user_are_taken_from_the_broker(
    settings: LearnerSettings, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user in (GONE, "a", None):
        assert tasks.enqueue_learning(Scope("ten_x", user))
    assert GONE.encode() in everything_in(redis_client)
    assert discard_messages(redis_client, settings, "ten_x", GONE) == 1
    assert discard_messages(redis_client, settings, "ten_x", GONE) == 0
    assert GONE.encode() not in everything_in(redis_client)
    assert discard_messages(redis_client, settings, "ten_x", None) == 2


def test_reserves_are_worked_out_again_without_the_users_contexts(
    tenancy: Tenancy, settings: LearnerSettings, redis_client: redis.Redis
) -> None:
    for user in ("a", GONE):
        tenancy.votes(2, user)
    with tenancy.database.session() as session:
        for answer in session.scalars(select(Generation)):
            answer.contexts = [CONTEXT]
    learn_all(tenancy, settings)
    erased = erase(tenancy, settings)
    work_out_reserves_again(tenancy.database, redis_client, erased, settings, now())
    with tenancy.database.session() as session:
        points = session.execute(
            text("SELECT version, context_count FROM incentive_points WHERE user_id = '' ORDER BY version")
        ).all()
    assert points[-1] == (erased.tenant_version_after, 2)
    assert fetch(redis_client, tenancy.scope()).reserves is not None  # type: ignore[union-attr]
