"""Meters of requests and tokens: in Redis, where all API processes share them, or in this process.

A meter is a generic cell rate algorithm, kept as a level: what is used is added, one minute's allowance drains away in
a minute, and what would lift the level above the allowance is refused. A minute's allowance may be used at once;
afterwards no window of t seconds admits more than allowance * (1 + t / 60), so a single minute sees twice the
allowance at worst, and the average is never above it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import redis
from cachetools import TTLCache

WINDOW_SECONDS = 60
_KEPT_SECONDS = WINDOW_SECONDS + 1
_MOST_LOCAL_BUCKETS = 100_000


@dataclass(frozen=True)
class Allowance:
    """What one bucket lets through in a minute; None is no limit.

    Attributes:
        bucket: name of the bucket, the same in every process.
        whose: whom the bucket counts, in words.
    """

    bucket: str
    whose: str
    requests: int | None
    tokens: int | None


@dataclass(frozen=True)
class Level:
    """How much of a bucket is in use now."""

    requests: float
    tokens: float


class Meter(Protocol):
    """Several buckets that are charged together or not at all."""

    def charge(self, allowances: Sequence[Allowance], requests: int, tokens: int) -> tuple[bool, tuple[Level, ...]]:
        """Add to every bucket if all of them have room for it; a negative number gives back.

        Returns:
            Whether they had, and the level of each: after the charge, or as it is when refused.
        """


# One round trip, and nobody else's command in between. Without a limit (an empty argument) a resource stays at 0.
_CHARGE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
local cost = {tonumber(ARGV[1]), tonumber(ARGV[2])}
local levels, known, admitted = {}, {}, 1
for bucket, key in ipairs(KEYS) do
  local held = redis.call('HMGET', key, 'requests', 'tokens', 'at')
  local passed = held[3] and math.max(0, now - held[3]) or 0
  known[bucket] = held[3]
  for resource = 1, 2 do
    local limit = tonumber(ARGV[2 * bucket + resource])
    local level = 0
    if limit then
      level = math.max(0, (held[resource] or 0) - passed * limit / 60)
      if cost[resource] > 0 and level + cost[resource] > limit then admitted = 0 end
    end
    levels[2 * bucket + resource - 2] = level
  end
end
if admitted == 1 then
  for bucket, key in ipairs(KEYS) do
    for resource = 1, 2 do
      local index = 2 * bucket + resource - 2
      if ARGV[index + 2] ~= '' then levels[index] = math.max(0, levels[index] + cost[resource]) end
    end
    if known[bucket] or cost[1] > 0 or cost[2] > 0 then
      local requests, tokens = levels[2 * bucket - 1], levels[2 * bucket]
      redis.call('HSET', key, 'requests', string.format('%.17g', requests), 'tokens', string.format('%.17g', tokens),
                 'at', string.format('%.17g', now))
      redis.call('EXPIRE', key, 61)
    end
  end
end
for index, level in ipairs(levels) do levels[index] = string.format('%.17g', level) end
return {admitted, unpack(levels)}
"""


class RedisMeter:
    """Buckets in Redis, by Redis' own clock."""

    def __init__(self, client: redis.Redis) -> None:
        self._script = client.register_script(_CHARGE)

    def charge(self, allowances: Sequence[Allowance], requests: int, tokens: int) -> tuple[bool, tuple[Level, ...]]:
        """See `Meter`.

        Raises:
            redis.RedisError: Redis does not answer; the charge may or may not have been made.
        """
        limits = [limit for a in allowances for limit in (a.requests or "", a.tokens or "")]
        admitted, *levels = self._script([a.bucket for a in allowances], [requests, tokens, *limits])
        numbers = [float(level) for level in levels]
        return bool(admitted), tuple(map(Level, numbers[::2], numbers[1::2]))


@dataclass(frozen=True)
class _Held:
    level: Level
    at_seconds: float


class LocalMeter:
    """Buckets in this process only, for as long as Redis is away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: TTLCache[str, _Held] = TTLCache(_MOST_LOCAL_BUCKETS, _KEPT_SECONDS)

    def charge(
        self, allowances: Sequence[Allowance], requests: int, tokens: int, now_seconds: float | None = None
    ) -> tuple[bool, tuple[Level, ...]]:
        """See `Meter`."""
        now = time.monotonic() if now_seconds is None else now_seconds
        with self._lock:
            before = tuple(self._drained(allowance, now) for allowance in allowances)
            for level, allowance in zip(before, allowances, strict=True):
                if not (
                    _has_room(level.requests, requests, allowance.requests)
                    and _has_room(level.tokens, tokens, allowance.tokens)
                ):
                    return False, before
            after = tuple(
                Level(_added(level.requests, requests, a.requests), _added(level.tokens, tokens, a.tokens))
                for level, a in zip(before, allowances, strict=True)
            )
            for level, allowance in zip(after, allowances, strict=True):
                self._held[allowance.bucket] = _Held(level, now)
        return True, after

    def _drained(self, allowance: Allowance, now: float) -> Level:
        held = self._held.get(allowance.bucket)
        if held is None:
            return Level(0.0, 0.0)
        minutes = max(0.0, now - held.at_seconds) / WINDOW_SECONDS
        return Level(
            max(0.0, held.level.requests - minutes * (allowance.requests or 0)),
            max(0.0, held.level.tokens - minutes * (allowance.tokens or 0)),
        )


def _has_room(level: float, cost: int, limit: int | None) -> bool:
    return limit is None or cost <= 0 or level + cost <= limit


def _added(level: float, cost: int, limit: int | None) -> float:
    return 0.0 if limit is None else max(0.0, level + cost)
