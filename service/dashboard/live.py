"""`GET /v1/dashboard/events`: every parameter version of a tenant the moment that it is published."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

import redis.asyncio
from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials
from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from learner.errors import LearnerError
from learner.parameters import Parameters
from learner.publishing import CHANNEL, Notice, read_announcement
from service.access.security import Caller, OperateCaller, TenantHeader, bearer, get_caller
from service.dependencies import ServicesDep
from service.errors import ServiceError, TooManyStreams
from service.services import Services

logger = logging.getLogger(__name__)
router = APIRouter()

_LISTEN_SECONDS = 0.5
_CHECK_KEY_SECONDS = 1.0
_KEEP_ALIVE = ": keep-alive\n\n"
STREAMS_OF_A_KEY = 20
"""Open at once in a process; each takes a connection to Redis."""


class Learned(BaseModel):
    """A new parameter version, or a revision of one, as it reached this server."""

    tenant: str
    user: str | None = Field(description="null for the tenant itself.")
    version: int
    revision: int = Field(description="Above 0, only the principals' reserves are new.")
    thumbs: int
    weights: dict[str, float]
    delay_seconds: float | None = Field(description="Since the oldest vote that made this version came in.")

    @classmethod
    def of(cls, parameters: Parameters, now: datetime) -> Learned:
        """What an announcement says, and how long after the vote it arrived."""
        oldest = parameters.oldest_feedback_at if parameters.revision == 0 else None
        return cls(
            tenant=parameters.tenant_id,
            user=parameters.user_id,
            version=parameters.version,
            revision=parameters.revision,
            thumbs=parameters.feedback_count,
            weights=dict(zip(parameters.principals, parameters.weights, strict=True)),
            delay_seconds=None if oldest is None else max((now - oldest).total_seconds(), 0.0),
        )


async def _take_a_place(request: Request, caller: OperateCaller) -> AsyncIterator[None]:
    """Hold one of the key's streams.

    Raises:
        TooManyStreams: all of them are open.
    """
    held: Counter[str] = request.app.state.streams
    if held[caller.key.id] >= STREAMS_OF_A_KEY:
        raise TooManyStreams(f"this key has {STREAMS_OF_A_KEY} streams open; close one, then try again")
    held[caller.key.id] += 1
    try:
        yield
    finally:
        held[caller.key.id] -= 1
        if not held[caller.key.id]:
            del held[caller.key.id]


@router.get(
    "/events",
    summary="What is learned, as it is learned",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events `learned`, `key` and `redis`."}},
)
async def stream_events(
    services: ServicesDep,
    request: Request,
    caller: OperateCaller,
    place: Annotated[None, Depends(_take_a_place, scope="request")],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    named_tenant: TenantHeader = None,
) -> StreamingResponse:
    """Server-sent events of the caller's tenant; of all tenants for an operator who names none.

    The stream ends with `key` once the key is no longer in force, and says `redis` while announcements are away.
    """

    async def is_in_force() -> bool:
        try:
            await get_caller(services, request, credentials, named_tenant)
        except (ServiceError, LearnerError):
            return False
        return True

    async def lines() -> AsyncIterator[str]:
        checked = time.monotonic()
        async for line in _announcements(services, caller):
            if request.app.state.draining:
                return
            if time.monotonic() - checked > _CHECK_KEY_SECONDS:
                if not await is_in_force():
                    yield "event: key\ndata: {}\n\n"
                    return
                checked = time.monotonic()
            if line:
                yield line

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _announcements(services: Services, caller: Caller) -> AsyncIterator[str]:
    """Lines of the stream; one at least every half second, so that a client who left is noticed."""
    yield _KEEP_ALIVE
    while True:
        try:
            async with (
                redis.asyncio.Redis.from_url(services.settings.redis_url, socket_timeout=5) as client,
                client.pubsub() as channel,
            ):
                await channel.subscribe(CHANNEL)
                while True:
                    message = await channel.get_message(ignore_subscribe_messages=True, timeout=_LISTEN_SECONDS)
                    yield _KEEP_ALIVE if message is None else _line(message["data"], caller)
        except RedisError as error:
            logger.warning("no announcements for the dashboard: %s", error)
            yield "event: redis\ndata: {}\n\n"
            await asyncio.sleep(_LISTEN_SECONDS)


def _line(body: bytes, caller: Caller) -> str:
    """The event that an announcement makes; empty for what is not the caller's."""
    try:
        parameters = read_announcement(body)
    except ValueError:
        # Without the cause: it would quote what was said.
        logger.error("an announcement could not be read")
        return ""
    if isinstance(parameters, Notice) or caller.tenant_id not in (None, parameters.tenant_id):
        return ""
    return f"event: learned\ndata: {Learned.of(parameters, datetime.now(UTC)).model_dump_json()}\n\n"
