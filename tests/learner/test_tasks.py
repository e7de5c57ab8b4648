"""Real worker processes: from a vote to published parameters, whatever dies on the way."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from sqlalchemy import text

from learner.celery_app import queue_of
from learner.evidence import accumulate
from learner.publishing import fetch
from learner.settings import LearnerSettings
from learner.store.evidence import evidence_of
from learner.store.learning import learned_observations, unlearned_votes
from learner.store.models import LearnerState
from learner.store.parameters import load_parameters
from learner.store.regret import regret_series
from learner.tasks import enqueue_learning
from tests.conftest import WorkerProcess
from tests.learner.conftest import Tenancy
from tests.waiting import wait_until


def learned_count(tenancy: Tenancy, user: str) -> int:
    with tenancy.database.session() as session:
        state = session.get(LearnerState, (tenancy.tenant_id, user))
        return 0 if state is None else state.feedback_count


def assert_every_vote_counts_once(tenancy: Tenancy, settings: LearnerSettings, user: str, votes: int) -> None:
    with tenancy.database.session() as session:
        assert unlearned_votes(session, tenancy.scope(user), 1) == []
        observations = learned_observations(session, tenancy.scope(user), votes + 1)
        state = session.get_one(LearnerState, (tenancy.tenant_id, user))
        assert len(observations) == votes
        assert evidence_of(state) == accumulate(observations, settings.constants)


@contextmanager
def learning_held_up(tenancy: Tenancy) -> Iterator[None]:
    """Workers stop in the middle of their transaction, after they folded and before they commit."""
    with tenancy.database.engine.connect() as connection, connection.begin():
        connection.execute(text("LOCK TABLE parameter_versions IN SHARE MODE"))
        yield


def wait_until_held_up(tenancy: Tenancy) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE relation = 'parameter_versions'::regclass AND NOT granted")
    with tenancy.database.engine.connect() as connection:
        wait_until(lambda: connection.execute(waiting).scalar_one() == 1)


def test_a_vote_becomes_published_parameters_and_the_tenant_follows(
    tenancy: Tenancy, worker: WorkerProcess, redis_client: redis.Redis
) -> None:
    receipts = tenancy.votes(3, "u")
    for receipt in receipts:
        assert enqueue_learning(receipt.scope)
    wait_until(lambda: learned_count(tenancy, "u") == 3)
    with tenancy.database.session() as session:
        learned = load_parameters(session, tenancy.scope("u"))
    wait_until(lambda: fetch(redis_client, tenancy.scope("u")) == learned)

    def measured() -> bool:
        with tenancy.database.session() as session:
            return bool(regret_series(session, tenancy.scope("u"), 1))

    wait_until(measured)
    wait_until(lambda: fetch(redis_client, tenancy.scope()) is not None)


def test_a_lost_message_is_made_up_for_by_the_sweep(
    tenancy: Tenancy, worker: WorkerProcess, redis_client: redis.Redis
) -> None:
    tenancy.votes(2, "u")
    wait_until(lambda: learned_count(tenancy, "u") == 2)


@pytest.mark.parametrize("whole_worker", [True, False], ids=["worker", "pool process"])
def test_sigkill_while_learning_loses_nothing_and_counts_nothing_twice(
    tenancy: Tenancy,
    worker: WorkerProcess,
    learner_settings: LearnerSettings,
    tmp_path: Path,
    whole_worker: bool,
) -> None:
    tenancy.votes(4, "u")
    wait_until(lambda: learned_count(tenancy, "u") == 4)
    with learning_held_up(tenancy):
        receipts = tenancy.votes(5, "u")
        enqueue_learning(receipts[0].scope)
        wait_until_held_up(tenancy)
        if whole_worker:
            worker.kill()
        else:
            os.kill(busy_child(worker), signal.SIGKILL)
        assert learned_count(tenancy, "u") == 4
    if whole_worker:
        worker = WorkerProcess(learner_settings, tmp_path / "successor.log")
    else:
        wait_until(lambda: b"WorkerLostError" in worker.log.read_bytes())
    wait_until(lambda: learned_count(tenancy, "u") == 9)
    worker.stop()
    assert_every_vote_counts_once(tenancy, learner_settings, "u", 9)


def busy_child(worker: WorkerProcess) -> int:
    """The pool process, which holds a connection to PostgreSQL; the beat holds none."""
    held = {
        child: sum("socket" in os.readlink(link) for link in Path(f"/proc/{child}/fd").iterdir())
        for child in worker.child_ids()
    }
    return max(held, key=lambda child: held[child])


def test_a_scope_that_fails_holds_up_no_other(
    tenancy: Tenancy, worker: WorkerProcess, learner_settings: LearnerSettings
) -> None:
    receipts = [*tenancy.votes(1, "broken"), *tenancy.votes(2, "sound")]
    with tenancy.database.session() as session:
        session.execute(
            text(
                "INSERT INTO learner_states (tenant_id, user_id, constants, version, shared_version, updated_at,"
                " principals, precision, linear, feedback_count)"
                " VALUES (:tenant, 'broken', :constants, 0, 0, now(), '{}', ARRAY[:huge], ARRAY[:huge], 0)"
            ),
            {
                "tenant": tenancy.tenant_id,
                "constants": learner_settings.constants.evidence_fingerprint,
                "huge": 2**62,
            },
        )
    for receipt in receipts:
        enqueue_learning(receipt.scope)
    wait_until(lambda: learned_count(tenancy, "sound") == 2)
    wait_until(lambda: b"EvidenceOverflow" in worker.log.read_bytes())
    assert learned_count(tenancy, "broken") == 0


def enqueue_elsewhere(redis_url: str) -> tuple[str, float]:
    """Enqueue in a process whose broker is at this address; what it returned and how long it took."""
    script = (
        "import time\n"
        "from learner.scope import Scope\n"
        "from learner.tasks import enqueue_learning\n"
        "begun = time.monotonic()\n"
        "print(enqueue_learning(Scope('ten_a', 'u')), time.monotonic() - begun)\n"
    )
    environment = {**os.environ, "CAGE_REDIS_URL": redis_url}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    returned, seconds = done.stdout.split()
    return returned, float(seconds)


def test_enqueueing_without_a_broker_neither_fails_nor_waits(redis_url: str) -> None:
    returned, seconds = enqueue_elsewhere("redis://127.0.0.1:1/0")
    assert returned == "False"
    assert seconds < 1.5


def test_enqueueing_to_a_broker_that_hangs_gives_up(redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        returned, seconds = enqueue_elsewhere(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
    assert returned == "False"
    assert seconds < 4


def test_messages_carry_ids_only(tenancy: Tenancy, redis_client: redis.Redis) -> None:
    assert enqueue_learning(tenancy.scope("u"))
    (message,) = redis_client.lrange(queue_of(tenancy.scope("u"), 8), 0, -1)
    assert b"application/json" in message
    assert b"pickle" not in message
