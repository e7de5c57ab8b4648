"""The principals' bidding over stored contexts: exact utilities, regrets under their bounds, published reserves."""

import math
import time

import numpy as np
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from cage_core.engine.games import MODES
from learner.allocating import allocate_incentives
from learner.bidding import reserve_grid, token_games
from learner.incentives import AGENT_TEMPERATURE, allocate
from learner.learning import learn
from learner.publishing import fetch, publish
from learner.settings import LearnerSettings
from learner.store.generations import StoredContext
from learner.store.incentives import incentive_series
from learner.store.models import Generation
from learner.store.parameters import load_parameters
from learner.tasks import enqueue_learning
from tests.conftest import WorkerProcess
from tests.learner.conftest import PRINCIPALS, Tenancy, now
from tests.waiting import wait_until


def contexts(
    seed: int, count: int, *, principals: tuple[str, ...] = PRINCIPALS, scale: float = 1.0
) -> list[StoredContext]:
    random = np.random.default_rng(seed)
    found = []
    for width in random.choice([2, 3, 5, 9, 17, 40], size=count):
        base = random.normal(size=width) * 2
        base -= np.logaddexp.reduce(base)
        rewards = scale * random.standard_cauchy(size=(len(principals), width)).clip(-30, 30)
        found.append(StoredContext(principals, base.tolist(), rewards.tolist()))
    return found


def even(principals: tuple[str, ...] = PRINCIPALS) -> dict[str, float]:
    return dict.fromkeys(principals, 1 / len(principals))


@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.1, 1.0, 30.0, 300.0]))
@settings(derandomize=True, deadline=None, max_examples=40)
def test_utilities_are_those_of_the_definition(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    given_contexts = contexts(seed, 5)
    base = [np.array(each.base_log_probs) for each in given_contexts]
    payoffs = [scale * np.array(each.rewards) for each in given_contexts]
    grid = reserve_grid(base, payoffs, 9)
    assert np.all(np.diff(grid, axis=1) >= 0)
    reserves = np.array([random.choice(row) for row in grid])
    batches = token_games(base, payoffs, grid)
    found = sum(each.utilities(reserves).sum(axis=0) for each in batches)
    expected = np.zeros_like(grid)
    for log_probs, worth in zip(base, payoffs, strict=True):
        for principal in range(len(worth)):
            for place, reserve in enumerate(grid[principal]):
                played = reserves.copy()
                played[principal] = reserve
                paid = np.maximum(worth - played[:, None], 0)
                logits = log_probs + paid.sum(axis=0)
                policy = np.exp(logits - np.logaddexp.reduce(logits))
                expected[principal, place] += policy @ (worth[principal] - paid[principal])
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9 * scale)


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 60),
    strength=st.sampled_from([0.01, 1.0, 3.0, 20.0]),
    principals=st.integers(1, 4),
)
@settings(derandomize=True, deadline=None, max_examples=40)
def test_regrets_stay_under_their_bounds(seed: int, count: int, strength: float, principals: int) -> None:
    names = PRINCIPALS[:principals]
    found = allocate(contexts(seed, count, principals=names), even(names), strength, seed)
    assert found is not None
    for regret, bound in (
        (found.best_response_regret, found.best_response_bound),
        (found.hedge_regret, found.hedge_bound),
    ):
        assert np.all(np.array(regret) <= np.array(bound) + 1e-9 * strength)
    assert all(map(math.isfinite, found.reserves))
    assert ("did not settle" in found.note) is not found.converged


def test_a_lone_principal_settles_at_once_and_keeps_what_is_best() -> None:
    found = allocate(contexts(3, 50, principals=("a",)), {"a": 1.0}, 1.0)
    assert found is not None
    assert found.converged
    assert found.best_response_regret == (0.0,)


def test_a_shift_of_rewards_shifts_the_reserves_alone() -> None:
    plain = contexts(5, 30)
    shifted = [
        StoredContext(each.principals, each.base_log_probs, (np.array(each.rewards) + 2.0).tolist()) for each in plain
    ]
    before, after = allocate(plain, even(), 1.0), allocate(shifted, even(), 1.0)
    assert before is not None
    assert after is not None
    assert np.array(after.reserves) == pytest.approx(np.array(before.reserves) + 0.5, abs=1e-6)
    assert after.hedge_regret == pytest.approx(before.hedge_regret, rel=0.2, abs=0.02)


def test_contexts_without_todays_principals_are_left_out() -> None:
    usable, foreign = contexts(1, 4), contexts(2, 4, principals=("warmth", "candour"))
    found = allocate([*usable, *foreign], even(), 1.0)
    assert found is not None
    assert found.context_count == 4
    assert allocate(foreign, even(), 1.0) is None
    assert allocate([], even(), 1.0) is None
    fewer = allocate(usable, even(("warmth", "detail")), 1.0)
    assert fewer is not None
    assert fewer.principals == ("warmth", "detail")


def test_a_thousand_contexts_take_a_fraction_of_a_second() -> None:
    many = contexts(9, 1000)
    begun = time.process_time()
    allocate(many, even(), 3.0)
    assert time.process_time() - begun < 1.0


def test_the_temperature_is_that_of_the_decoder() -> None:
    assert MODES["committed"] == MODES["equilibrium"] == AGENT_TEMPERATURE


def give_contexts(tenancy: Tenancy, generation_id: str, seed: int = 0) -> None:
    rows = [{"base_log_probs": each.base_log_probs, "rewards": each.rewards} for each in contexts(seed, 4)]
    with tenancy.database.session() as session:
        session.get_one(Generation, generation_id).contexts = rows


def test_reserves_become_a_revision_of_the_version_once(tenancy: Tenancy, learner_settings: LearnerSettings) -> None:
    scope = tenancy.scope("u")
    assert allocate_incentives(tenancy.database, scope, learner_settings, now()) is None
    answer = tenancy.answer("u")
    give_contexts(tenancy, answer)
    tenancy.vote(answer, 1)
    learned = learn(tenancy.database, scope, learner_settings, now())
    assert learned is not None
    revised = allocate_incentives(tenancy.database, scope, learner_settings, now())
    assert revised is not None
    assert revised.order == (1, 1)
    assert (revised.weights, revised.theta) == (learned.parameters.weights, learned.parameters.theta)
    assert revised.reserves is not None
    assert allocate_incentives(tenancy.database, scope, learner_settings, now()) is None
    with tenancy.database.session() as session:
        assert load_parameters(session, scope) == revised
        (point,) = incentive_series(session, scope, 5)
    assert (point.version, point.context_count, tuple(point.reserves)) == (1, 4, revised.reserves)
    tenancy.votes(1, "u")
    following = learn(tenancy.database, scope, learner_settings, now())
    assert following is not None
    assert (following.parameters.order, following.parameters.reserves) == ((2, 0), revised.reserves)


def test_an_older_revision_never_replaces_a_newer_one(
    tenancy: Tenancy, learner_settings: LearnerSettings, redis_client: redis.Redis
) -> None:
    scope = tenancy.scope("u")
    answer = tenancy.answer("u")
    give_contexts(tenancy, answer)
    tenancy.vote(answer, 1)
    first = learn(tenancy.database, scope, learner_settings, now())
    revised = allocate_incentives(tenancy.database, scope, learner_settings, now())
    tenancy.votes(1, "u")
    second = learn(tenancy.database, scope, learner_settings, now())
    assert first is not None
    assert second is not None
    assert revised is not None
    assert publish(redis_client, revised) is True
    assert publish(redis_client, first.parameters) is False
    assert fetch(redis_client, scope) == revised
    assert publish(redis_client, second.parameters) is True
    assert publish(redis_client, revised) is False
    assert fetch(redis_client, scope) == second.parameters


def test_a_worker_publishes_the_weights_and_then_the_reserves(
    tenancy: Tenancy, worker: WorkerProcess, redis_client: redis.Redis
) -> None:
    answer = tenancy.answer("u")
    give_contexts(tenancy, answer)
    assert enqueue_learning(tenancy.vote(answer, 1).scope)

    def published() -> bool:
        held = fetch(redis_client, tenancy.scope("u"))
        return held is not None and held.order == (1, 1) and held.reserves is not None

    wait_until(published)
