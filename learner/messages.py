"""Messages to workers that name a user or a tenant: how to take them out of the broker again.

A message is a bell (`learner.celery_app`): none is needed for anything to be learned, so taking one away loses
nothing. They lie in a list for each queue, and while a worker has them in the hash `unacked`, as kombu keeps them.
"""

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any, cast

import redis

from learner.celery_app import all_queues
from learner.settings import LearnerSettings

_UNACKED, _UNACKED_INDEX = "unacked", "unacked_index"


def discard_messages(client: redis.Redis, settings: LearnerSettings, tenant_id: str, user_id: str | None) -> int:
    """Take away every message about a user, or with None about a tenant and all its users; returns how many.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    discarded = 0
    for queue in all_queues(settings.learning_queues):
        for message in client.lrange(queue, 0, -1):
            if _is_about(_loaded(message), tenant_id, user_id):
                discarded += client.lrem(queue, 0, cast(str, message))
    for tag, held in client.hscan_iter(_UNACKED):
        message, *_ = _loaded(held) or [None]
        if _is_about(message, tenant_id, user_id):
            discarded += client.hdel(_UNACKED, tag)
            client.zrem(_UNACKED_INDEX, tag)
    return discarded


def _is_about(message: Any, tenant_id: str, user_id: str | None) -> bool:
    return any(
        arguments[:1] == [tenant_id] and (user_id is None or arguments[1:2] == [user_id])
        for arguments in _arguments(message)
    )


def _arguments(message: Any) -> Iterator[list[Any]]:
    """The positional arguments of a task; of what is no task, none."""
    try:
        yield list(json.loads(base64.b64decode(message["body"]))[0])
    except (KeyError, IndexError, TypeError, ValueError, binascii.Error):
        return


def _loaded(text: bytes | str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
