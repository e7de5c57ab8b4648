"""Parameter versions on their way to decoders, through Redis.

Redis holds the newest version of recently used scopes and announces new ones. It holds nothing that
PostgreSQL does not: flushed, it fills again; away, decoders read PostgreSQL.
"""

import redis

from learner.parameters import Parameters
from learner.scope import Scope

CHANNEL = "cage:parameters"
KEEP_SECONDS = 24 * 3600

# An older version never replaces a newer one, nor an older revision a newer one of the same version, whatever
# order publishers run in.
_KEEP_NEWEST = """
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '-1')
local revision = tonumber(redis.call('HGET', KEYS[1], 'revision') or '-1')
if version > tonumber(ARGV[1]) then return 0 end
if version == tonumber(ARGV[1]) and revision > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'revision', ARGV[2], 'body', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
if ARGV[5] ~= '' then redis.call('PUBLISH', ARGV[5], ARGV[3]) end
return 1
"""


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


def _keep_newest(client: redis.Redis, parameters: Parameters, channel: str) -> bool:
    arguments = (str(parameters.version), str(parameters.revision), parameters.to_json(), str(KEEP_SECONDS), channel)
    return bool(client.eval(_KEEP_NEWEST, 1, _key(parameters.scope), *arguments))


def _key(scope: Scope) -> str:
    # The tenant's length keeps ('a:b', 'c') and ('a', 'b:c') apart.
    return f"cage:parameters:{len(scope.tenant_id)}:{scope.tenant_id}:{scope.user_key}"
