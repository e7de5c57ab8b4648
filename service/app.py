"""The API: its routes, its error form, its middleware."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version

from fastapi import FastAPI

from learner.tracing import is_tracing_configured
from service import errors, feedback, generations, health, principals, regret
from service.access import auditing, idempotency, keys
from service.chat import routes as chat
from service.dashboard import routes as dashboard
from service.dashboard.counts import VoteCounts
from service.middleware import BodyLimit, RequestEnvelope
from service.pages import reference, static
from service.services import Services
from service.telemetry.logs import RequestLog
from service.telemetry.tracing import NO_NATIVE_TELEMETRY, TracedRequests
from service.tenants import routes as tenants
from service.users import routes as users

DESCRIPTION = """
Chat answers that learn what each user prefers, from thumbs, within seconds, without training.

Change `base_url` of an OpenAI client to this server, pass the end user as `user`, and send thumbs to
`POST /v1/feedback` with the answer's `id`.
"""


def create_app(services: Services) -> FastAPI:
    """The ASGI application over running services; who started them stops them."""
    app = FastAPI(
        title="CAGE",
        summary="Online no-regret learning for LLM alignment at inference time",
        description=DESCRIPTION,
        version=version("cage"),
        telemetry=NO_NATIVE_TELEMETRY,
        # FastAPI's own pages load scripts from a CDN; `service.pages.reference` shows the same without.
        docs_url=None,
        redoc_url=None,
        responses={"4XX": {"model": errors.ErrorBody}, "5XX": {"model": errors.ErrorBody}},
    )
    app.state.services = services
    app.state.draining = False
    app.state.vote_counts = VoteCounts()
    app.state.streams = Counter()
    errors.install(app)
    resources = (chat, feedback, generations, users, regret, tenants, principals, keys, auditing)
    for part in (*resources, dashboard, static, reference, health):
        app.include_router(part.router)
    idempotency.install(app, services)
    limits = services.settings
    app.add_middleware(BodyLimit, largest_bytes=limits.largest_body_bytes, arrival_seconds=limits.arrival_seconds)
    app.add_middleware(RequestLog)
    if is_tracing_configured():
        app.add_middleware(TracedRequests)
    app.add_middleware(RequestEnvelope, metrics=services.metrics)
    return app
