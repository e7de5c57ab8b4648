"""The API: its routes, its error form, its middleware."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import FastAPI

from service import auditing, chat, dashboard, errors, feedback, health, keys, pages, users
from service.middleware import BodyLimit, RequestEnvelope
from service.services import Services

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
        responses={"4XX": {"model": errors.ErrorBody}, "5XX": {"model": errors.ErrorBody}},
    )
    app.state.services = services
    app.state.draining = False
    errors.install(app)
    for part in (chat, feedback, users, keys, auditing, dashboard, pages, health):
        app.include_router(part.router)
    app.add_middleware(BodyLimit, largest_bytes=services.settings.largest_body_bytes)
    app.add_middleware(RequestEnvelope, metrics=services.metrics)
    return app
