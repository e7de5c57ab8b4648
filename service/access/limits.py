"""Requests and tokens per minute: of a key, of a tenant, of each of its users.

A request is charged to all its buckets at once, before anything is decoded: itself, its prompt and the longest answer
it may get. At the end the tokens that were not written are given back. While Redis is away every process counts for
itself, with the same limits: the service goes on, and n processes together admit n times the limit at worst.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis
from prometheus_client import CollectorRegistry, Counter
from redis.backoff import NoBackoff
from redis.retry import Retry
from starlette.requests import Request

from learner.store.models import Tenant
from service.access.meters import WINDOW_SECONDS, Allowance, Level, LocalMeter, RedisMeter
from service.errors import InvalidBody, RateLimited
from service.settings import LimitSettings

if TYPE_CHECKING:
    from service.access.security import Caller

logger = logging.getLogger(__name__)

REDIS_REST_SECONDS = 1.0
_LOG_PAUSE_SECONDS = 60.0


@dataclass(frozen=True)
class Reservation:
    """What a request was charged.

    Attributes:
        tokens: the most that it may read and write.
        shared: whether it was charged in Redis.
    """

    allowances: tuple[Allowance, ...]
    tokens: int
    shared: bool


class Limits:
    """Admits requests and settles them; safe to use from several threads."""

    def __init__(self, settings: LimitSettings, redis_url: str, registry: CollectorRegistry) -> None:
        timeout = settings.limiter_timeout_seconds
        self._settings = settings
        self._client = redis.Redis.from_url(
            redis_url, socket_connect_timeout=timeout, socket_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
        self._shared, self._local = RedisMeter(self._client), LocalMeter()
        self._redis_rests_until = self._silent_until = 0.0
        self._settling = ThreadPoolExecutor(1, "limits")
        self._refused = Counter("cage_rate_limited_total", "Requests refused by a limit.", ["whose"], registry=registry)
        self._unshared = Counter(
            "cage_limits_without_redis_total", "Requests that this process counted by itself.", registry=registry
        )

    def close(self) -> None:
        """Finish what is being settled; close the connections."""
        self._settling.shutdown()
        self._client.close()

    def admit(self, request: Request, caller: Caller, user_id: str | None, tokens: int = 0) -> Reservation:
        """Charge one request, and the tokens it may use, to all that it counts for, or to nothing.

        The answer to `request` says how much is left, whichever way this goes. Without a limit it costs nothing.

        Raises:
            RateLimited: a limit is reached; says how long to wait.
            InvalidBody: the request alone is above a limit, so that waiting does not help.
        """
        allowances = self._allowances(caller, user_id)
        for allowance in allowances:
            if allowance.tokens is not None and tokens > allowance.tokens:
                raise InvalidBody(
                    f"prompt and max_tokens come to {tokens} tokens, {allowance.whose} may use {allowance.tokens} in "
                    "a minute; send less or ask for fewer",
                    "max_tokens",
                )
        if not allowances:
            return Reservation((), tokens, shared=False)
        admitted, levels, shared = self._charge(allowances, 1, tokens)
        request.state.rate_limit_headers = headers(allowances, levels)
        if not admitted:
            raise self._refusal(allowances, levels, tokens)
        return Reservation(allowances, tokens, shared)

    def apply_to(self, caller: Caller) -> bool:
        """Whether the caller's key or tenant has a limit."""
        return bool(self._allowances(caller, None))

    def counts_users(self, tenant: Tenant) -> bool:
        """Whether it matters whose request it is."""
        allowance = self._user_allowance(tenant, "")
        return allowance.requests is not None or allowance.tokens is not None

    def settle(self, reservation: Reservation, used_tokens: int) -> None:
        """Give back what was not used, soon, without making anybody wait."""
        limited = tuple(allowance for allowance in reservation.allowances if allowance.tokens is not None)
        unused = reservation.tokens - used_tokens
        if not limited or unused <= 0:
            return
        if reservation.shared:
            self._settling.submit(self._charge_in_redis, limited, 0, -unused)
        else:
            self._local.charge(limited, 0, -unused)

    def _allowances(self, caller: Caller, user_id: str | None) -> tuple[Allowance, ...]:
        tenant, key, default = caller.tenant, caller.key, self._settings
        owner = "operators" if tenant is None else tenant.id
        every = [Allowance(_bucket(owner, "key", key.id), "this key", key.requests_per_minute, key.tokens_per_minute)]
        if tenant is not None:
            every.append(
                Allowance(
                    _bucket(owner, "tenant"),
                    "this tenant",
                    _or(tenant.requests_per_minute, default.default_requests_per_minute),
                    _or(tenant.tokens_per_minute, default.default_tokens_per_minute),
                )
            )
        if tenant is not None and user_id is not None:
            every.append(self._user_allowance(tenant, user_id))
        return tuple(a for a in every if a.requests is not None or a.tokens is not None)

    def _user_allowance(self, tenant: Tenant, user_id: str) -> Allowance:
        return Allowance(
            _user_bucket(tenant.id, user_id),
            "this user",
            _or(tenant.user_requests_per_minute, self._settings.default_user_requests_per_minute),
            _or(tenant.user_tokens_per_minute, self._settings.default_user_tokens_per_minute),
        )

    def _charge(
        self, allowances: Sequence[Allowance], requests: int, tokens: int
    ) -> tuple[bool, tuple[Level, ...], bool]:
        """As `Meter.charge`, and whether it was in Redis."""
        verdict = self._charge_in_redis(allowances, requests, tokens)
        if verdict is not None:
            return *verdict, True
        self._unshared.inc()
        return *self._local.charge(allowances, requests, tokens), False

    def _charge_in_redis(
        self, allowances: Sequence[Allowance], requests: int, tokens: int
    ) -> tuple[bool, tuple[Level, ...]] | None:
        """None when Redis does not answer, or did not a moment ago."""
        rests_until = self._redis_rests_until
        if rests_until:
            if time.monotonic() < rests_until:
                return None
            # One request tries; the others need not wait for it.
            self._redis_rests_until = time.monotonic() + REDIS_REST_SECONDS
        try:
            verdict = self._shared.charge(allowances, requests, tokens)
        except redis.RedisError as error:
            self._redis_rests_until = time.monotonic() + REDIS_REST_SECONDS
            if time.monotonic() >= self._silent_until:
                self._silent_until = time.monotonic() + _LOG_PAUSE_SECONDS
                logger.warning("Redis does not answer, each process counts limits for itself: %s", error)
            return None
        self._redis_rests_until = 0.0
        return verdict

    def _refusal(self, allowances: Sequence[Allowance], levels: Sequence[Level], tokens: int) -> RateLimited:
        waits = [
            (_excess_seconds(level.requests + 1, a.requests), a, f"make {a.requests} requests")
            for a, level in zip(allowances, levels, strict=True)
        ] + [
            (_excess_seconds(level.tokens + tokens, a.tokens), a, f"use {a.tokens} tokens")
            for a, level in zip(allowances, levels, strict=True)
        ]
        wait_seconds, worst, what = max(waits, key=lambda wait: wait[0])
        self._refused.labels(worst.whose.removeprefix("this ")).inc()
        seconds = max(1, math.ceil(wait_seconds))
        return RateLimited(f"{worst.whose} may {what} in a minute; try again in {seconds} s", seconds)


def headers(allowances: Sequence[Allowance], levels: Sequence[Level]) -> dict[str, str]:
    """OpenAI's `x-ratelimit-…`, of the bucket with the least left."""
    found: dict[str, str] = {}
    for resource in ("requests", "tokens"):
        left = [
            (max(0.0, limit - used), limit, used)
            for limit, used in (
                (getattr(a, resource), getattr(level, resource)) for a, level in zip(allowances, levels, strict=True)
            )
            if limit is not None
        ]
        if left:
            remaining, limit, used = min(left)
            found[f"x-ratelimit-limit-{resource}"] = str(limit)
            found[f"x-ratelimit-remaining-{resource}"] = str(math.floor(remaining))
            found[f"x-ratelimit-reset-{resource}"] = f"{used * WINDOW_SECONDS / limit:.3f}s"
    return found


def forget_user(client: redis.Redis, tenant_id: str, user_id: str) -> None:
    """Delete what is counted of a user; what processes counted by themselves is gone within a minute.

    Raises:
        redis.RedisError: Redis does not answer; the bucket is gone within a minute all the same.
    """
    client.delete(_user_bucket(tenant_id, user_id))


def _user_bucket(tenant_id: str, user_id: str) -> str:
    # Redis shows its keys to whoever may look: no user's id among them.
    digest = hashlib.sha256(f"{tenant_id}\0{user_id}".encode("utf-8", "surrogatepass")).hexdigest()
    return _bucket(tenant_id, "user", digest)


def _bucket(owner: str, *parts: str) -> str:
    # The braces keep a tenant's buckets together on one node of a Redis cluster.
    return ":".join(("cage:limits", f"{{{owner}}}", *parts))


def _excess_seconds(level: float, limit: int | None) -> float:
    """How long the level takes to drain down to the limit."""
    return 0.0 if limit is None else (level - limit) * WINDOW_SECONDS / limit


def _or(own: int | None, default: int | None) -> int | None:
    return default if own is None else own
