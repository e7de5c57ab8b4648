"""Scopes are spread over the queues the same way everywhere; workers take from all of them or from some."""

import subprocess
import sys
from collections import Counter

from learner.celery_app import all_queues, app, queue_of, worker_command
from learner.scope import Scope
from learner.settings import LearnerSettings

QUEUES = 8


def test_a_scopes_queue_never_changes() -> None:
    known = [Scope("ten_a"), Scope("ten_a", "u"), Scope("ten_b", "ü"), Scope("a", "b:c"), Scope("a:b", "c")]
    assert [queue_of(scope, QUEUES) for scope in known] == [f"cage-learning-{number}" for number in (2, 7, 5, 5, 7)]


def test_scopes_are_spread_evenly() -> None:
    counts = Counter(queue_of(Scope("ten_a", f"user-{number}"), QUEUES) for number in range(8000))
    assert set(counts) == set(all_queues(QUEUES)[:QUEUES])
    assert max(counts.values()) < 1150
    assert min(counts.values()) > 850


def test_a_worker_takes_from_every_queue_or_from_those_it_is_given(learner_settings: LearnerSettings) -> None:
    assert set(app.conf.task_queues) == set(all_queues(learner_settings.learning_queues))
    assert "--queues" not in worker_command(2, with_sweep=False)
    chosen = worker_command(2, with_sweep=False, queues=("cage-learning-0", "cage-learning-3"))
    assert chosen[chosen.index("--queues") + 1] == "cage-learning-0,cage-learning-3"


def test_a_worker_does_not_load_torch() -> None:
    """A worker starts in a second and stays small; torch would cost it both."""
    script = "import sys, learner.tasks; print({'torch', 'numba', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
