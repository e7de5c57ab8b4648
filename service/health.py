"""Health, readiness and metrics; none needs a key."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

import redis
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from service.dependencies import ServicesDep
from service.errors import DecoderEnded, ErrorBody

logger = logging.getLogger(__name__)
router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether to send requests here, and what is amiss if not."""

    ready: bool
    engine: bool
    database: bool
    redis: bool
    draining: bool


@router.get("/health", summary="Is the process alive?", responses={503: {"model": ErrorBody}})
def health(services: ServicesDep, request: Request) -> Health:
    """Fails when the process cannot recover by itself: its decoder has ended."""
    if not services.engine.is_running and not request.app.state.draining:
        raise DecoderEnded("the decoder has ended; this process must be restarted")
    return Health()


@router.get("/ready", summary="Should requests be sent here?", responses={503: {"model": Readiness}})
def ready(services: ServicesDep, request: Request, response: Response) -> Readiness:
    """Fails while PostgreSQL is away, the decoder has ended or the process is shutting down.

    Without Redis decoding goes on.
    """
    draining: bool = request.app.state.draining
    engine, database = services.engine.is_running, _answers(services.database.ping)
    readiness = Readiness(
        ready=engine and database and not draining,
        engine=engine,
        database=database,
        redis=_answers(services.redis.ping),
        draining=draining,
    )
    if not readiness.ready:
        response.status_code = 503
    return readiness


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
def metrics(services: ServicesDep) -> Response:
    """Counters and histograms of this process."""
    services.metrics.running.set(services.engine.num_running)
    services.metrics.reused_tokens.set(services.engine.prefixes.num_reused_tokens)
    services.metrics.waiting.set(services.engine.num_waiting)
    return Response(generate_latest(services.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _answers(ping: Callable[[], object]) -> bool:
    try:
        ping()
    except (SQLAlchemyError, redis.RedisError) as error:
        logger.warning("not ready: %s", error)
        return False
    return True
