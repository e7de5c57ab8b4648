"""What decoders and Redis hold of users and tenants: made to follow a change, or taken away."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime

import redis

from learner import publishing
from learner.erasing import Erasure, clear_traces, work_out_reserves_again
from learner.parameters import Parameters
from learner.publishing import Notice
from service.access import limits
from service.services import Services

logger = logging.getLogger(__name__)

_UNANNOUNCED = "a change is stored but was not announced, decoders will look it up: %s"


def tell_everyone(services: Services, notice: Notice) -> None:
    """Tell every decoder, this one at once; those whom Redis does not reach find out by their version check."""
    services.parameters.hear(notice)
    try:
        publishing.announce(services.redis, notice)
    except redis.RedisError as error:
        logger.warning(_UNANNOUNCED, error)


def put_to_use(services: Services, parameters: Parameters) -> None:
    """Give every decoder a new version, this one at once; likewise."""
    services.parameters.take_over(parameters)
    try:
        publishing.publish(services.redis, parameters)
    except redis.RedisError as error:
        logger.warning(_UNANNOUNCED, error)


def clear_user(services: Services, erased: Erasure) -> Counter[str]:
    """Take an erased user out of Redis and of every decoder; returns what was cleared.

    Raises:
        redis.RedisError: Redis does not answer; not all of it was cleared, so erase again.
    """
    for scope in erased.forgotten:
        services.parameters.hear(Notice("forgotten", scope.tenant_id, scope.user_id))
        if scope.user_id is not None:
            limits.forget_user(services.redis, scope.tenant_id, scope.user_id)
    cleared = clear_traces(services.redis, erased, services.settings)
    work_out_reserves_again(services.database, services.redis, erased, services.settings, datetime.now(UTC))
    return cleared
