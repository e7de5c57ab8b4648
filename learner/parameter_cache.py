"""The newest parameters of every scope in use, at hand in a decoder's process."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import redis
from cachetools import LRUCache
from redis.client import PubSub
from sqlalchemy.exc import SQLAlchemyError

from learner import publishing
from learner.parameters import Parameters
from learner.scope import Scope
from learner.store.database import Database
from learner.store.parameters import configured_parameters, load_parameters, newer_parameters

logger = logging.getLogger(__name__)

SCOPES_PER_CHECK = 1000
LISTEN_SECONDS = 0.25
RECONNECT_SECONDS = 0.5
REDIS_REST_SECONDS = 1.0


@dataclass(frozen=True)
class _Held:
    """What is known of one scope; of a user of whom nothing was learned, that there are no parameters."""

    order: tuple[int, int]
    parameters: Parameters | None


_BEING_READ = _Held((-1, 0), None)
_NOTHING_LEARNED = _Held((0, 0), None)


class ParameterCache:
    """Process cache over Redis over PostgreSQL, kept current by a follower thread.

    The follower listens to announcements. As those can be missed, it also compares the versions it holds
    with PostgreSQL's: all of them after each subscription, a slice of them every few seconds. Redis may be
    away; then reads go to PostgreSQL and updates arrive with the version check.
    """

    def __init__(
        self,
        database: Database,
        client: redis.Redis,
        *,
        capacity_scopes: int = 10_000,
        version_check_seconds: float = 2.0,
        on_update: Callable[[Parameters], None] | None = None,
    ) -> None:
        """`on_update` is called, in the follower's thread, with each newer version of a scope in use."""
        self._database = database
        self._redis = client
        self._on_update = on_update
        self._version_check_seconds = version_check_seconds
        self._lock = threading.Lock()
        self._held: LRUCache[Scope, _Held] = LRUCache(capacity_scopes)
        self._unchecked: deque[Scope] = deque()
        self._next_check_seconds = 0.0
        self._redis_rests_until = 0.0
        self._stopping = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="parameter-follower", daemon=True)

    def start(self) -> None:
        """Begin to follow updates."""
        self._follower.start()

    def stop(self) -> None:
        """Stop following; what is held stays readable."""
        self._stopping.set()
        self._follower.join()

    def get(self, scope: Scope) -> Parameters:
        """What holds for a scope: its own parameters, else its tenant's, else the configured prior.

        Raises:
            UnknownTenant: there is no such tenant.
            sqlalchemy.exc.SQLAlchemyError: nothing is held and PostgreSQL does not answer.
        """
        parameters = self._lookup(scope).parameters
        if parameters is None:
            parameters = self._lookup(scope.tenant).parameters
        if parameters is None:
            raise LookupError(f"a tenant always has parameters, but {scope.tenant_id!r} has none")
        return parameters

    def _lookup(self, scope: Scope) -> _Held:
        with self._lock:
            # The mark lets an announcement that arrives during the read be kept.
            held = self._held.setdefault(scope, _BEING_READ)
        if held is not _BEING_READ:
            return held
        found = self._read(scope)
        with self._lock:
            held = self._held.get(scope, _BEING_READ)
            if found.order > held.order:
                self._held[scope] = held = found
        return held

    def _read(self, scope: Scope) -> _Held:
        parameters = self._read_redis(scope)
        if parameters is not None:
            return _Held(parameters.order, parameters)
        with self._database.session(scope.tenant_id) as session:
            parameters = load_parameters(session, scope)
            if parameters is None:
                if scope.user_id is not None:
                    return _NOTHING_LEARNED
                return _Held((0, 0), configured_parameters(session, scope.tenant_id))
        self._write_redis(parameters)
        return _Held(parameters.order, parameters)

    def _read_redis(self, scope: Scope) -> Parameters | None:
        if time.monotonic() < self._redis_rests_until:
            return None
        try:
            return publishing.fetch(self._redis, scope)
        except redis.RedisError as error:
            self._rest_redis(error)
            return None

    def _write_redis(self, parameters: Parameters) -> None:
        if time.monotonic() < self._redis_rests_until:
            return
        try:
            publishing.store(self._redis, parameters)
        except redis.RedisError as error:
            self._rest_redis(error)

    def _rest_redis(self, error: redis.RedisError) -> None:
        """Let requests go straight to PostgreSQL for a while instead of each waiting for a timeout."""
        self._redis_rests_until = time.monotonic() + REDIS_REST_SECONDS
        logger.warning("Redis does not answer, parameters come from PostgreSQL: %s", error)

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._redis.pubsub() as channel:  # type: ignore[no-untyped-call]
                    channel.subscribe(publishing.CHANNEL)
                    self._listen(channel)
            except redis.RedisError as error:
                logger.warning("no announcements from Redis, checking versions instead: %s", error)
                self._check_versions_when_due()
                self._stopping.wait(RECONNECT_SECONDS)

    def _listen(self, channel: PubSub) -> None:
        while not self._stopping.is_set():
            message = channel.get_message(timeout=LISTEN_SECONDS)
            if message is not None and message["type"] == "subscribe":
                # Also after a reconnection inside the client: whatever was said before was missed.
                self._check_everything()
            elif message is not None and message["type"] == "message":
                self._hear(message["data"])
            self._check_versions_when_due()

    def _hear(self, body: bytes) -> None:
        try:
            self._take_over(Parameters.from_json(body))
        except ValueError:
            logger.exception("an announcement could not be read")

    def _check_versions_when_due(self) -> None:
        if time.monotonic() >= self._next_check_seconds:
            self._check_versions()
            self._next_check_seconds = time.monotonic() + self._version_check_seconds

    def _check_everything(self) -> None:
        self._unchecked.clear()
        self._check_versions()
        while self._unchecked and not self._stopping.is_set():
            self._check_versions()

    def _check_versions(self) -> None:
        """Compare the next slice of held versions with PostgreSQL's."""
        with self._lock:
            if not self._unchecked:
                self._unchecked.extend(self._held)
            scopes = [self._unchecked.popleft() for _ in range(min(SCOPES_PER_CHECK, len(self._unchecked)))]
            held = {scope: self._held[scope].order for scope in scopes if scope in self._held}
        if not held:
            return
        try:
            with self._database.session() as session:
                newer = newer_parameters(session, held)
        except SQLAlchemyError as error:
            logger.warning("parameter versions could not be checked: %s", error)
            return
        for parameters in newer:
            self._take_over(parameters)

    def _take_over(self, parameters: Parameters) -> None:
        """Hold a newer version of a scope in use; scopes not in use are read when they are asked for."""
        with self._lock:
            held = self._held.get(parameters.scope)
            if held is None or parameters.order <= held.order:
                return
            self._held[parameters.scope] = _Held(parameters.order, parameters)
        if self._on_update is None:
            return
        try:
            self._on_update(parameters)
        except Exception:
            logger.exception("the update was taken over, but who wanted to hear of it failed")
