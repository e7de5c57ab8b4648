"""The meter against the textbook form of the same rule, and Redis against plain counting."""

import itertools
import threading
import time
from fractions import Fraction

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.access.meters import Allowance, Level, LocalMeter, RedisMeter

_buckets = itertools.count()

STEPS = st.lists(
    st.tuples(
        st.integers(0, 40).map(lambda quarters: quarters / 4),
        st.integers(-8, 30),
    ),
    max_size=40,
)


def requests_only(limit: int, bucket: str = "b") -> Allowance:
    return Allowance(bucket, "this key", limit, None)


def tokens_only(limit: int, bucket: str = "b") -> Allowance:
    return Allowance(bucket, "this key", None, limit)


def fresh(limit: int | None, tokens: int | None = None) -> Allowance:
    return Allowance(f"test:meter:{next(_buckets)}", "this key", limit, tokens)


@given(limit=st.integers(1, 40), steps=STEPS)
def test_the_level_is_the_generic_cell_rate_algorithm(limit: int, steps: list[tuple[float, int]]) -> None:
    """Virtual scheduling (ITU-T I.371): a theoretical arrival time that may lie one window ahead, in exact numbers."""
    meter, now = LocalMeter(), 0.0
    arrival = Fraction(0)
    for pause, cost in steps:
        now += pause
        admitted, levels = meter.charge([tokens_only(limit)], 0, cost, now)
        ahead = max(arrival, Fraction(now)) + Fraction(60 * cost, limit)
        assert admitted == (cost <= 0 or ahead - Fraction(now) <= 60) or abs(ahead - Fraction(now) - 60) < 1e-9
        if admitted:
            arrival = max(ahead, Fraction(now))
        expected = max(Fraction(0), (arrival - Fraction(now)) * limit / 60)
        assert levels[0].tokens == pytest.approx(float(expected), abs=1e-9)


@given(limit=st.integers(1, 30), steps=st.lists(st.tuples(st.floats(0, 30), st.integers(1, 10)), max_size=40))
def test_no_window_admits_more_than_it_may(limit: int, steps: list[tuple[float, int]]) -> None:
    meter, now = LocalMeter(), 0.0
    admitted: list[tuple[float, int]] = []
    for pause, cost in steps:
        now += pause
        if meter.charge([tokens_only(limit)], 0, cost, now)[0]:
            admitted.append((now, cost))
    for first, last in itertools.combinations_with_replacement(range(len(admitted)), 2):
        used = sum(cost for _, cost in admitted[first : last + 1])
        assert used <= limit * (1 + (admitted[last][0] - admitted[first][0]) / 60) + 1e-6


def test_all_buckets_are_charged_or_none() -> None:
    meter = LocalMeter()
    wide, narrow = requests_only(10, "wide"), requests_only(1, "narrow")
    assert meter.charge([wide, narrow], 1, 0, 0.0) == (True, (Level(1, 0), Level(1, 0)))
    assert meter.charge([wide, narrow], 1, 0, 0.0) == (False, (Level(1, 0), Level(1, 0)))
    assert meter.charge([wide], 1, 0, 0.0) == (True, (Level(2, 0),))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    limits=st.lists(st.tuples(st.none() | st.integers(1, 9), st.none() | st.integers(1, 9)), min_size=1, max_size=3),
    costs=st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 5)), max_size=12),
)
def test_redis_counts_like_anybody(
    redis_client: redis.Redis, limits: list[tuple[int | None, int | None]], costs: list[tuple[int, int]]
) -> None:
    """Limits so low that nothing whole drains away meanwhile: then the rule is plain counting."""
    meter, allowances = RedisMeter(redis_client), [fresh(*limit) for limit in limits]
    counted = [[0, 0] for _ in limits]
    for cost in costs:
        fits = all(
            limit is None or more <= 0 or used + more <= limit
            for held, own in zip(counted, limits, strict=True)
            for used, more, limit in zip(held, cost, own, strict=True)
        )
        admitted, levels = meter.charge(allowances, *cost)
        assert admitted == fits
        if fits:
            counted = [
                [0 if limit is None else max(0, used + more) for used, more, limit in zip(held, cost, own, strict=True)]
                for held, own in zip(counted, limits, strict=True)
            ]
        for level, held in zip(levels, counted, strict=True):
            assert held[0] - 1 < level.requests <= held[0]
            assert held[1] - 1 < level.tokens <= held[1]


def test_many_at_once_get_no_more_than_there_is(redis_client: redis.Redis) -> None:
    limit, allowance = 50, fresh(50)
    verdicts: list[bool] = []
    started = time.monotonic()

    def take() -> None:
        meter = RedisMeter(redis_client)
        verdicts.extend(meter.charge([allowance], 1, 0)[0] for _ in range(20))

    threads = [threading.Thread(target=take) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drained = limit * (time.monotonic() - started) / 60
    assert limit <= sum(verdicts) <= limit + drained + 1


def test_giving_back_leaves_nothing_where_nothing_was(redis_client: redis.Redis) -> None:
    allowance = fresh(None, 10)
    assert RedisMeter(redis_client).charge([allowance], 0, -5) == (True, (Level(0, 0),))
    assert not redis_client.exists(allowance.bucket)
    RedisMeter(redis_client).charge([allowance], 0, 5)
    assert 0 < redis_client.ttl(allowance.bucket) <= 61
