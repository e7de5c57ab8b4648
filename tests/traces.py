"""Looking everywhere for what should be nowhere: every table of PostgreSQL, every key of Redis."""

import base64
import json

import redis
from sqlalchemy import text

from learner.store.database import Database
from learner.store.models import Base


def rows_naming(database: Database, word: str) -> dict[str, int]:
    """Rows of any table with this word anywhere in them."""
    found = {}
    with database.session() as session:
        for table in Base.metadata.tables:
            statement = text(f"SELECT count(*) FROM {table} t WHERE position(:word IN t::text) > 0")
            count = session.scalar(statement, {"word": word})
            if count:
                found[table] = count
    return found


def everything_in(client: redis.Redis) -> bytes:
    """Every key of Redis with what it holds, in one piece; bodies of messages to workers decoded."""
    seen: list[bytes] = []
    for key in client.keys("*"):
        seen.append(key)
        kind = client.type(key)
        if kind == b"string":
            seen.append(client.get(key) or b"")
        elif kind == b"hash":
            seen += [part for pair in client.hgetall(key).items() for part in pair]
        elif kind == b"list":
            seen += client.lrange(key, 0, -1)
        elif kind == b"set":
            seen += client.smembers(key)
        elif kind == b"zset":
            seen += client.zrange(key, 0, -1)
    return b"\n".join([*seen, *map(_body, seen)])


def _body(message: bytes) -> bytes:
    try:
        loaded = json.loads(message)
        envelope = loaded[0] if isinstance(loaded, list) else loaded
        return base64.b64decode(envelope["body"])
    except (ValueError, KeyError, TypeError, IndexError):
        return b""
