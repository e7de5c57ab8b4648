"""Parameter versions on their way to decoders, through Redis.

Redis holds the newest version of recently used scopes and announces new ones. It holds nothing that
PostgreSQL does not: flushed, it fills again; away, decoders read PostgreSQL.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

import redis

from learner.parameters import Parameters
from learner.scope import Scope

CHANNEL = "cage:parameters"
KEEP_SECONDS = 24 * 3600
FORGOTTEN_SECONDS = 600
"""Longer than any task or read may hold on to a version that was current when it began."""
KEYS_PER_SCAN = 1000

# An older version never replaces a newer one, nor an older revision a newer one of the same version, whatever
# order publishers run in; nothing learned before its scope was forgotten comes back.
_KEEP_NEWEST = """
local forgotten = tonumber(redis.call('GET', KEYS[2]) or '-1')
if tonumber(ARGV[6]) <= forgotten or redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '-1')
local revision = tonumber(redis.call('HGET', KEYS[1], 'revision') or '-1')
if version > tonumber(ARGV[1]) then return 0 end
if version == tonumber(ARGV[1]) and revision > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'revision', ARGV[2], 'body', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
if ARGV[5] ~= '' then redis.call('PUBLISH', ARGV[5], ARGV[3]) end
return 1
"""


@dataclass(frozen=True)
class Notice:
    """What decoders must know besides new versions.

    Attributes:
        what: "configured": the tenant's principals or prior weights changed. "forgotten": what was learned of this
            scope is gone. "deleted": the whole tenant is gone.
    """

    what: Literal["configured", "forgotten", "deleted"]
    tenant_id: str
    user_id: str | None = None

    @property
    def scope(self) -> Scope:
        """What the notice is about."""
        return Scope(self.tenant_id, self.user_id)


def publish(client: redis.Redis, parameters: Parameters) -> bool:
    """Store a version and announce it; False when Redis already had a newer one.

    Raises:
        redis.RedisError: Redis does not answer; decoders will find the version by their version check.
    """
    return _keep_newest(client, parameters, CHANNEL)


def store(client: redis.Redis, parameters: Parameters) -> bool:
    """Store a version without announcing it."""
    return _keep_newest(client, parameters, "")


def fetch(client: redis.Redis, scope: Scope) -> Parameters | None:
    """The version that Redis holds for exactly this scope, if it holds one that can be read."""
    body = client.hget(_key(scope), "body")
    if not isinstance(body, bytes):
        return None
    try:
        return Parameters.from_json(body)
    except ValueError:
        return None


def discard(client: redis.Redis, scope: Scope) -> int:
    """Delete what Redis holds for a scope; returns how many keys that were."""
    return client.delete(_key(scope))


def forget(client: redis.Redis, scope: Scope, at: datetime) -> int:
    """Delete what Redis holds for a scope, keep out what was learned before `at`, and tell decoders.

    Returns how many keys were deleted. What keeps old versions out is named by a hash, and goes by itself.

    Raises:
        redis.RedisError: Redis does not answer; nothing, or not all of it, was done.
    """
    client.set(_forgotten_key(scope), repr(at.timestamp()), ex=FORGOTTEN_SECONDS)
    deleted = discard(client, scope)
    announce(client, Notice("forgotten", scope.tenant_id, scope.user_id))
    return deleted


def forget_tenant(client: redis.Redis, tenant_id: str) -> int:
    """Delete what Redis holds for a tenant and its users, keep more of it out, and tell decoders.

    Raises:
        redis.RedisError: see `forget`.
    """
    client.set(_deleted_key(tenant_id), "1", ex=FORGOTTEN_SECONDS)
    keys = list(_keys_of(client, tenant_id))
    for key in keys:
        client.delete(key)
    announce(client, Notice("deleted", tenant_id))
    return len(keys)


def announce(client: redis.Redis, notice: Notice) -> None:
    """Tell every decoder."""
    client.publish(CHANNEL, json.dumps({"notice": asdict(notice)}))


def read_announcement(body: bytes) -> Parameters | Notice:
    """What a message of the channel says.

    Raises:
        ValueError: it says nothing that can be read.
    """
    fields = json.loads(body)
    if not (isinstance(fields, dict) and "notice" in fields):
        return Parameters.from_json(body)
    try:
        return Notice(**fields["notice"])
    except TypeError as error:
        raise ValueError(f"not a notice: {error}") from error


def _keep_newest(client: redis.Redis, parameters: Parameters, channel: str) -> bool:
    scope = parameters.scope
    keys = (_key(scope), _forgotten_key(scope), _deleted_key(scope.tenant_id))
    arguments = (
        str(parameters.version),
        str(parameters.revision),
        parameters.to_json(),
        str(KEEP_SECONDS),
        channel,
        repr(parameters.learned_at.timestamp()),
    )
    return bool(client.eval(_KEEP_NEWEST, len(keys), *keys, *arguments))


def _keys_of(client: redis.Redis, tenant_id: str) -> Iterator[bytes]:
    # A tenant's id is made here and holds no character that a pattern would read as more than itself.
    yield from client.scan_iter(match=f"{_prefix(tenant_id)}*", count=KEYS_PER_SCAN)


def _key(scope: Scope) -> str:
    return _prefix(scope.tenant_id) + scope.user_key


def _prefix(tenant_id: str) -> str:
    # The tenant's length keeps ('a:b', 'c') and ('a', 'b:c') apart.
    return f"cage:parameters:{len(tenant_id)}:{tenant_id}:"


def _forgotten_key(scope: Scope) -> str:
    """Says that a scope was forgotten, without saying whose it was."""
    return "cage:forgotten:" + hashlib.sha256(_key(scope).encode()).hexdigest()


def _deleted_key(tenant_id: str) -> str:
    return f"cage:deleted:{tenant_id}"
