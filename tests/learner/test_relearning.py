"""Another configuration: what was learned is solved for it, and every decoder follows, told or not."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from sqlalchemy import text

from learner.errors import SolverStalled
from learner.learning import learn
from learner.parameter_cache import ParameterCache
from learner.parameters import Parameters
from learner.publishing import CHANNEL, Notice, announce, fetch, forget, forget_tenant, publish
from learner.relearning import relearn
from learner.replay import replay
from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store.database import Database
from learner.store.parameters import effective_parameters
from learner.store.tenants import change_principals
from tests.learner.conftest import PRINCIPALS, Tenancy, now
from tests.waiting import wait_until

SECOND = 1.0
NEVER_SECONDS = 3600.0


@pytest.fixture
def learned(tenancy: Tenancy, learner_settings: LearnerSettings) -> Tenancy:
    """A tenant that has learned from two users."""
    for user in ("u", "v"):
        tenancy.votes(6, user)
        learn(tenancy.database, tenancy.scope(user), learner_settings, now())
    learn(tenancy.database, tenancy.scope(), learner_settings, now())
    return tenancy


@contextmanager
def following(
    database: Database, client: redis.Redis, settings: LearnerSettings, check_seconds: float = NEVER_SECONDS
) -> Iterator[ParameterCache]:
    """A decoder's cache; another one has heard of nothing that this one hears by itself."""

    def renew(scope: Scope) -> Parameters | None:
        return relearn(database, scope, settings, now())

    before = client.pubsub_numsub(CHANNEL)[0][1]
    cache = ParameterCache(database, client, version_check_seconds=check_seconds, renew=renew)
    cache.start()
    try:
        wait_until(lambda: client.pubsub_numsub(CHANNEL)[0][1] == before + 1)
        yield cache
    finally:
        cache.stop()


def configure(tenancy: Tenancy, **weights: float) -> None:
    with tenancy.database.session(tenancy.tenant_id) as session:
        change_principals(session, tenancy.tenant_id, weights)


def current(tenancy: Tenancy, user: str | None) -> Parameters:
    with tenancy.database.session() as session:
        return effective_parameters(session, tenancy.scope(user))


def test_there_and_back_again(learned: Tenancy, learner_settings: LearnerSettings) -> None:
    """Evidence knows nothing of priors: at the old configuration again, everything is bitwise as before."""

    def solved_for(user: str | None, **weights: float) -> Parameters:
        configure(learned, **weights)
        parameters = relearn(learned.database, learned.scope(user), learner_settings, now())
        assert parameters is not None
        return parameters

    even = dict.fromkeys(PRINCIPALS, 1.0)
    first = current(learned, None)
    for user in (None, "u"):
        old = current(learned, user)
        away = solved_for(user, detail=3.0, warmth=1.0)
        assert (away.principals, away.version) == (("detail", "warmth"), old.version + 1)
        assert away.feedback_count == old.feedback_count
        # A user's prior is what its tenant knows by now, so only what is solved from now on is comparable.
        back, _, again = solved_for(user, **even), solved_for(user, caution=1.0), solved_for(user, **even)
        assert (back.theta, back.weights) == (again.theta, again.weights)
        if user is None:
            assert (back.theta, back.weights) == (first.theta, first.weights)
    assert replay(learned.database, learner_settings, lambda done, total: None).differences == ()
    # Versions without news leave the tenant nothing to take over.
    assert learn(learned.database, learned.scope(), learner_settings, now()) is None


def test_every_decoder_follows_an_announcement(
    learned: Tenancy, learner_settings: LearnerSettings, redis_client: redis.Redis
) -> None:
    caches = (following(learned.database, redis_client, learner_settings) for _ in range(2))
    with next(caches) as one, next(caches) as other:
        for cache, user in ((one, "u"), (other, "u"), (one, "new"), (other, "new")):
            assert cache.get(learned.scope(user)).principals == PRINCIPALS
        configure(learned, caution=1.0, warmth=1.0)
        announce(redis_client, Notice("configured", learned.tenant_id))
        for cache, user in ((one, "u"), (other, "u"), (other, "new"), (one, "v")):
            wait_until(
                lambda cache=cache, user=user: cache.get(learned.scope(user)).principals == ("caution", "warmth"),
                seconds=SECOND,
            )
        assert one.get(learned.scope("u")) == other.get(learned.scope("u")) == current(learned, "u")


def test_a_decoder_that_missed_the_announcement_finds_out(
    tenancy: Tenancy, learner_settings: LearnerSettings, redis_client: redis.Redis
) -> None:
    with following(tenancy.database, redis_client, learner_settings, check_seconds=0.1) as cache:
        assert cache.get(tenancy.scope("u")).weights == (0.25,) * 4
        configure(tenancy, caution=1.0)
        wait_until(lambda: cache.get(tenancy.scope("u")).weights == (1.0,))


def test_a_scope_that_cannot_be_solved_falls_back_to_the_configuration(
    learned: Tenancy, redis_client: redis.Redis
) -> None:
    def fail(scope: Scope) -> Parameters | None:
        raise SolverStalled

    cache = ParameterCache(learned.database, redis_client, renew=fail)
    configure(learned, caution=1.0)
    assert cache.get(learned.scope("u")).weights == (1.0,)


def test_what_was_erased_is_forgotten_by_decoders(
    learned: Tenancy, learner_settings: LearnerSettings, redis_client: redis.Redis
) -> None:
    heard: list[Scope] = []
    cache = ParameterCache(learned.database, redis_client, version_check_seconds=NEVER_SECONDS, on_forget=heard.append)
    cache.start()
    try:
        wait_until(lambda: redis_client.pubsub_numsub(CHANNEL)[0][1] == 1)
        assert cache.get(learned.scope("u")).user_id == "u"
        delete_user(learned, "u")
        assert forget(redis_client, learned.scope("u"), now()) == 1
        wait_until(lambda: cache.get(learned.scope("u")).user_id is None, seconds=SECOND)
        assert heard == [learned.scope("u")]
    finally:
        cache.stop()


def test_what_was_erased_unheard_is_noticed_by_the_version_check(
    learned: Tenancy, learner_settings: LearnerSettings, redis_client: redis.Redis
) -> None:
    with following(learned.database, redis_client, learner_settings, check_seconds=0.1) as cache:
        held = cache.get(learned.scope("u"))
        assert fetch(redis_client, learned.scope("u")) == held
        delete_user(learned, "u")
        wait_until(lambda: cache.get(learned.scope("u")).user_id is None)
        assert fetch(redis_client, learned.scope("u")) is None


def test_a_deleted_tenant_leaves_nothing_in_redis(learned: Tenancy, redis_client: redis.Redis) -> None:
    stays = Scope("ten_other", "u")
    for scope in (learned.scope("u"), learned.scope()):
        publish(redis_client, current(learned, scope.user_id))
    redis_client.hset(f"cage:parameters:9:{stays.tenant_id}:u", "body", "x")
    assert forget_tenant(redis_client, learned.tenant_id) == 2
    assert not publish(redis_client, current(learned, "u"))
    assert len(redis_client.keys("cage:parameters:*")) == 1


def delete_user(tenancy: Tenancy, user: str) -> None:
    with tenancy.database.session() as session:
        for table in ("parameter_versions", "learner_states"):
            session.execute(text(f"DELETE FROM {table} WHERE user_id = :user"), {"user": user})
