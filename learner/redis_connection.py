"""Connections to Redis that give up quickly: Redis is never the only copy, so nobody waits for it long."""

import redis

CONNECT_TIMEOUT_SECONDS = 0.5
ANSWER_TIMEOUT_SECONDS = 1.0


def connect(url: str) -> redis.Redis:
    """A client with a pool of its own; the first command connects."""
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        socket_timeout=ANSWER_TIMEOUT_SECONDS,
        health_check_interval=30,
    )
