"""Parameters through a real Redis, and the cache that follows them."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import pytest
import redis
from sqlalchemy import event

from learner.errors import UnknownTenant
from learner.learning import learn
from learner.parameter_cache import ParameterCache
from learner.parameters import Parameters
from learner.publishing import CHANNEL, fetch, publish
from learner.redis_connection import connect
from learner.scope import Scope
from learner.settings import LearnerSettings
from tests.learner.conftest import Tenancy, now
from tests.waiting import wait_until

NEVER_SECONDS = 3600.0
OpenCache = Callable[..., AbstractContextManager[ParameterCache]]


def parameters(version: int, scope: Scope) -> Parameters:
    return Parameters(
        scope.tenant_id, scope.user_id, version, ("a",), (0.5, 0.0), (1.0,), version, now(), oldest_feedback_at=now()
    )


def learn_next(tenancy: Tenancy, settings: LearnerSettings, user: str | None = "u") -> Parameters:
    tenancy.votes(1, user)
    outcome = learn(tenancy.database, tenancy.scope(user), settings, now())
    assert outcome is not None
    return outcome.parameters


@pytest.fixture
def open_cache(tenancy: Tenancy, redis_client: redis.Redis) -> OpenCache:
    """Open a cache that follows; unless told otherwise it checks versions only after subscribing."""

    @contextmanager
    def opened(client: redis.Redis = redis_client, **options: object) -> Iterator[ParameterCache]:
        cache = ParameterCache(tenancy.database, client, **{"version_check_seconds": NEVER_SECONDS, **options})  # type: ignore[arg-type]
        cache.start()
        try:
            yield cache
        finally:
            cache.stop()

    return opened


def await_follower(client: redis.Redis) -> None:
    wait_until(lambda: client.pubsub_numsub(CHANNEL)[0][1] == 1)


def test_an_older_version_never_replaces_a_newer_one(redis_client: redis.Redis) -> None:
    scope = Scope("ten_a", "u")
    for version, kept in ((2, True), (1, False), (10, True), (9, False), (10, True)):
        assert publish(redis_client, parameters(version, scope)) is kept
    held = fetch(redis_client, scope)
    assert held is not None
    assert held.version == 10


def test_scopes_do_not_share_keys(redis_client: redis.Redis) -> None:
    publish(redis_client, parameters(1, Scope("a", "b:c")))
    for other in (Scope("a:b", "c"), Scope("a"), Scope("a", "b")):
        assert fetch(redis_client, other) is None


def test_what_redis_holds_but_nobody_can_read_is_passed_over(redis_client: redis.Redis) -> None:
    scope = Scope("ten_a", "u")
    publish(redis_client, parameters(1, scope))
    (key,) = redis_client.keys("cage:parameters:*")
    redis_client.hset(key, "body", "{}")
    assert fetch(redis_client, scope) is None


def test_a_user_falls_back_to_the_tenant_and_to_the_prior(
    tenancy: Tenancy, open_cache: OpenCache, learner_settings: LearnerSettings
) -> None:
    with open_cache() as cache:
        assert cache.get(tenancy.scope("u")).version == 0
        assert cache.get(tenancy.scope("u")).weights == (0.25,) * 4
        with pytest.raises(UnknownTenant):
            cache.get(Scope("ten_none", "u"))
    tenant = learn_next(tenancy, learner_settings, None)
    with open_cache() as cache:
        assert cache.get(tenancy.scope("u")) == tenant
    own = learn_next(tenancy, learner_settings)
    with open_cache() as cache:
        assert cache.get(tenancy.scope("u")) == own
        assert cache.get(tenancy.scope("v")) == tenant


def test_an_announcement_reaches_a_cache_that_uses_the_scope(
    tenancy: Tenancy, open_cache: OpenCache, learner_settings: LearnerSettings, redis_client: redis.Redis
) -> None:
    heard: list[Parameters] = []
    with open_cache(on_update=heard.append) as cache:
        cache.get(tenancy.scope("u"))
        await_follower(redis_client)
        learned = learn_next(tenancy, learner_settings)
        publish(redis_client, parameters(1, tenancy.scope("stranger")))
        publish(redis_client, learned)
        wait_until(lambda: cache.get(tenancy.scope("u")) == learned, seconds=2)
        redis_client.publish(CHANNEL, "garbage")
        publish(redis_client, replace(learned, version=2))
        wait_until(lambda: cache.get(tenancy.scope("u")).version == 2, seconds=2)
        redis_client.publish(CHANNEL, learned.to_json())
        publish(redis_client, replace(learned, version=3))
        wait_until(lambda: len(heard) == 3, seconds=2)
    assert [(each.user_id, each.version) for each in heard] == [("u", 1), ("u", 2), ("u", 3)]


def test_a_missed_announcement_is_repaired_by_the_version_check(
    tenancy: Tenancy, open_cache: OpenCache, learner_settings: LearnerSettings
) -> None:
    with open_cache(version_check_seconds=0.1) as cache:
        cache.get(tenancy.scope("u"))
        learned = learn_next(tenancy, learner_settings)
        wait_until(lambda: cache.get(tenancy.scope("u")) == learned, seconds=3)


def test_a_broken_subscription_is_renewed_and_what_it_missed_repaired(
    tenancy: Tenancy, open_cache: OpenCache, learner_settings: LearnerSettings, redis_client: redis.Redis
) -> None:
    with open_cache() as cache:
        cache.get(tenancy.scope("u"))
        await_follower(redis_client)
        learned = learn_next(tenancy, learner_settings)
        redis_client.client_kill_filter(_type="pubsub")
        wait_until(lambda: cache.get(tenancy.scope("u")) == learned, seconds=5)
        await_follower(redis_client)
        publish(redis_client, replace(learned, version=2))
        wait_until(lambda: cache.get(tenancy.scope("u")).version == 2, seconds=2)


def test_a_flushed_redis_is_filled_again(
    tenancy: Tenancy, open_cache: OpenCache, learner_settings: LearnerSettings, redis_client: redis.Redis
) -> None:
    learned = learn_next(tenancy, learner_settings)
    publish(redis_client, learned)
    redis_client.flushall()
    with open_cache() as cache:
        assert cache.get(tenancy.scope("u")) == learned
    assert fetch(redis_client, tenancy.scope("u")) == learned


def test_a_stale_redis_is_corrected(
    tenancy: Tenancy, open_cache: OpenCache, learner_settings: LearnerSettings, redis_client: redis.Redis
) -> None:
    publish(redis_client, learn_next(tenancy, learner_settings))
    newest = learn_next(tenancy, learner_settings)
    with open_cache(version_check_seconds=0.1) as cache:
        wait_until(lambda: cache.get(tenancy.scope("u")) == newest, seconds=3)


def test_without_redis_everything_works_more_slowly(
    tenancy: Tenancy, open_cache: OpenCache, learner_settings: LearnerSettings
) -> None:
    with connect("redis://127.0.0.1:1/0") as nobody, open_cache(nobody, version_check_seconds=0.1) as cache:
        begun = time.monotonic()
        assert cache.get(tenancy.scope("u")).version == 0
        assert time.monotonic() - begun < 1.0
        learned = learn_next(tenancy, learner_settings)
        wait_until(lambda: cache.get(tenancy.scope("u")) == learned, seconds=3)


def test_the_cache_forgets_what_it_has_no_room_for(tenancy: Tenancy, open_cache: OpenCache) -> None:
    with open_cache(capacity_scopes=3) as cache:
        for number in range(20):
            assert cache.get(tenancy.scope(f"user-{number}")).version == 0


def test_an_update_during_a_read_is_not_lost(
    tenancy: Tenancy, open_cache: OpenCache, learner_settings: LearnerSettings, redis_client: redis.Redis
) -> None:
    """A version announced while an older one is being read from PostgreSQL stays the one held."""
    newer = replace(learn_next(tenancy, learner_settings), version=2)
    heard: list[Parameters] = []

    def announce(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "FROM parameter_versions" in statement and not heard:
            redis_client.publish(CHANNEL, newer.to_json())
            wait_until(lambda: heard == [newer])

    with open_cache(on_update=heard.append) as cache:
        await_follower(redis_client)
        event.listen(tenancy.database.engine, "after_cursor_execute", announce)
        assert cache.get(tenancy.scope("u")) == newer
        assert cache.get(tenancy.scope("u")) == newer


def test_a_listener_that_fails_does_not_stop_the_follower(
    tenancy: Tenancy, open_cache: OpenCache, learner_settings: LearnerSettings, redis_client: redis.Redis
) -> None:
    def fail(_: Parameters) -> None:
        raise RuntimeError

    with open_cache(on_update=fail) as cache:
        cache.get(tenancy.scope("u"))
        await_follower(redis_client)
        for version in (1, 2):
            publish(redis_client, replace(parameters(version, tenancy.scope("u"))))
            wait_until(lambda version=version: cache.get(tenancy.scope("u")).version == version, seconds=2)
