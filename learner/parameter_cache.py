"""The newest parameters of every scope in use, at hand in a decoder's process."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import redis
from cachetools import LRUCache, TTLCache
from redis.client import PubSub
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from learner import publishing
from learner.errors import LearnerError
from learner.parameters import Parameters
from learner.publishing import Notice
from learner.scope import Scope
from learner.store.database import Database
from learner.store.parameters import (
    configurations,
    configured_parameters,
    load_parameters,
    newer_parameters,
    vanished_scopes,
)

logger = logging.getLogger(__name__)

SCOPES_PER_CHECK = 1000
LISTEN_SECONDS = 0.25
RECONNECT_SECONDS = 0.5
REDIS_REST_SECONDS = 1.0
FORGOTTEN_SCOPES = 10_000


@dataclass(frozen=True)
class _Held:
    """What is known of one scope; of one of which nothing was learned, that there are no parameters."""

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
        on_forget: Callable[[Scope], None] | None = None,
        renew: Callable[[Scope], Parameters | None] | None = None,
    ) -> None:
        """Begin with nothing held.

        Args:
            on_update: called, mostly in the follower's thread, with each newer version of a scope in use.
            on_forget: called likewise with each scope whose learned state was erased.
            renew: solves a scope's parameters for the tenant's present configuration; None if nothing was learned.
        """
        self._database = database
        self._redis = client
        self._on_update = on_update
        self._on_forget = on_forget
        self._renew = renew
        self._version_check_seconds = version_check_seconds
        self._lock = threading.Lock()
        self._held: LRUCache[Scope, _Held] = LRUCache(capacity_scopes)
        self._configured: LRUCache[str, Parameters] = LRUCache(capacity_scopes)
        self._forgotten: TTLCache[Scope, float] = TTLCache(FORGOTTEN_SCOPES, publishing.FORGOTTEN_SECONDS)
        # Counts notices, so that what was read before one is not held after it.
        self._notices = 0
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
        configured = self._configuration(scope.tenant_id)
        learned = self._lookup(scope).parameters
        if learned is None and scope.user_id is not None:
            learned = self._lookup(scope.tenant).parameters
        if learned is None:
            return configured
        return learned if learned.follows(configured) else self._renewed(learned, configured)

    def hear(self, notice: Notice) -> None:
        """Take note at once of what every decoder is being told."""
        forgotten: list[Scope] = []
        with self._lock:
            self._notices += 1
            if notice.what == "forgotten":
                forgotten = [notice.scope]
            else:
                self._configured.pop(notice.tenant_id, None)
            if notice.what == "deleted":
                forgotten = [held for held in self._held if held.tenant_id == notice.tenant_id]
            for scope in forgotten:
                self._held.pop(scope, None)
                self._forgotten[scope] = time.monotonic()
        if self._on_forget is not None:
            for scope in forgotten:
                self._on_forget(scope)

    def was_forgotten_since(self, scope: Scope, moment_seconds: float) -> bool:
        """Whether it was heard that this scope was erased after a moment of `time.monotonic`."""
        with self._lock:
            return self._forgotten.get(scope, -math.inf) >= moment_seconds

    def _configuration(self, tenant_id: str) -> Parameters:
        with self._lock:
            held, notices = self._configured.get(tenant_id), self._notices
        if held is not None:
            return held
        with self._database.session(tenant_id) as session:
            configured = configured_parameters(session, tenant_id)
        with self._lock:
            if notices == self._notices:
                self._configured[tenant_id] = configured
        return configured

    def _renewed(self, learned: Parameters, configured: Parameters) -> Parameters:
        """Parameters that were learned before the tenant's configuration changed, solved for the present one."""
        if self._renew is None:
            return learned
        try:
            renewed = self._renew(learned.scope)
        except LearnerError:
            logger.exception("parameters could not be renewed; the configured ones hold until the next vote")
            return configured
        if renewed is None:
            return configured
        self._write_redis(renewed)
        self.take_over(renewed)
        return renewed

    def _lookup(self, scope: Scope) -> _Held:
        with self._lock:
            # The mark lets an announcement that arrives during the read be kept.
            held, notices = self._held.setdefault(scope, _BEING_READ), self._notices
        if held is not _BEING_READ:
            return held
        found = self._read(scope)
        with self._lock:
            held = self._held.get(scope, _BEING_READ)
            if found.order <= held.order:
                return held
            if notices == self._notices:
                self._held[scope] = found
            else:
                self._held.pop(scope, None)
        return found

    def _read(self, scope: Scope) -> _Held:
        parameters = self._read_redis(scope)
        if parameters is not None:
            return _Held(parameters.order, parameters)
        with self._database.session(scope.tenant_id) as session:
            parameters = load_parameters(session, scope)
        if parameters is None:
            return _NOTHING_LEARNED
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
            heard = publishing.read_announcement(body)
        except ValueError:
            # Without the cause: it would quote what was said.
            logger.error("an announcement could not be read")
            return
        if isinstance(heard, Parameters):
            self.take_over(heard)
            return
        try:
            self.hear(heard)
        except Exception:
            logger.exception("a notice was taken, but who wanted to hear of it failed")

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
                self._check_configurations(session)
                newer, vanished = newer_parameters(session, held), vanished_scopes(session, held)
        except SQLAlchemyError as error:
            logger.warning("parameter versions could not be checked: %s", error)
            return
        for parameters in newer:
            self.take_over(parameters)
        for scope in vanished:
            self._let_go(scope)

    def _check_configurations(self, session: Session) -> None:
        """Let go of configurations that are not those on record any more."""
        with self._lock:
            held = dict(self._configured)
        on_record = configurations(session, held)
        for tenant_id, configured in held.items():
            if tenant_id not in on_record:
                self.hear(Notice("deleted", tenant_id))
            elif on_record[tenant_id] != configured:
                self.hear(Notice("configured", tenant_id))

    def _let_go(self, scope: Scope) -> None:
        """A version that was erased, although nobody was heard saying so."""
        try:
            publishing.discard(self._redis, scope)
        except redis.RedisError as error:
            self._rest_redis(error)
        self.hear(Notice("forgotten", scope.tenant_id, scope.user_id))

    def take_over(self, parameters: Parameters) -> None:
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
