"""`Idempotency-Key`: a request that is repeated under the same key is done once.

One line makes routes idempotent: `APIRouter(..., dependencies=[Idempotent])`, or `dependencies=[Idempotent]` at one
route. Without the header it costs nothing.

- The first request is done. What it answers is kept for 24 hours, if it is a success; a request that failed changed
  nothing, and its repetition is a first try.
- A repetition is answered with the same status and body and the header `idempotent-replayed: true`. It is not counted
  against limits of requests and tokens.
- A repetition that comes while the first is under way waits a little, then gets 409 with Retry-After.
- The same key with another method, path, body or API key is 422.
- A process that dies in the middle leaves a request under way; after two minutes a repetition takes it over. What it
  had committed by then stays: a vote is not counted twice all the same, a key may be there twice. An answer that takes
  longer than that may be decoded twice.
- Streams cannot be repeated: 422.

Bodies are sealed with the API key of the request (`service.access.sealing`), so that a key's secret or an answer's
words are in the database for nobody else to read, not even for tenants that store no text. Rows that hold something of
an end user name the user and are erased with it: the user is `user` of the request's body, `user_id` of its path, or
what an endpoint puts in `request.state.end_user`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Header, Request, Response
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from learner.store.database import Database
from learner.store.idempotency import claim, finish, release
from learner.store.models import IdempotentRequest
from service.access.sealing import Seal
from service.access.security import AnyCaller
from service.chat.schemas import UserId
from service.dependencies import ServicesDep
from service.errors import IdempotencyKeyReused, InvalidBody, RequestUnderWay
from service.services import Services

logger = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
WAIT_SECONDS = 1.5
_PAUSE_SECONDS = 0.1
_CLAIM = "idempotency_claim"
_USER = TypeAdapter[str](UserId)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=HEADER,
        min_length=1,
        max_length=256,
        pattern=r"^[\x20-\x7e]+$",
        description="Names this request: repeated under the same name within 24 hours it is not done again.",
    ),
]


class Replayed(Exception):
    """The request was answered before; not an error."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__("this request was answered before")
        self.status = status
        self.body = body


@dataclass(frozen=True)
class _Claim:
    """The right to answer a request."""

    tenant_id: str | None
    key: str
    seal: Seal
    claimed_at: datetime
    user_id: str | None

    def keep(self, database: Database, status: int, body: bytes, user_id: str | None) -> None:
        """Keep a success, forget anything else."""
        owner = self.tenant_id or ""
        with database.session(self.tenant_id) as session:
            if 200 <= status < 300:
                sealed = self.seal.close(body)
                late = user_id if self.user_id is None else None
                finish(session, owner, self.key, self.claimed_at, status, sealed, late)
            else:
                release(session, owner, self.key, self.claimed_at)


async def _idempotent(services: ServicesDep, caller: AnyCaller, request: Request, given: IdempotencyKey = None) -> None:
    """Claim the request, or answer it as it was answered before.

    Raises:
        Replayed: it was.
        IdempotencyKeyReused: the key stands for another request.
        RequestUnderWay: the first one is not done yet.
        InvalidBody: the answer would be a stream.
    """
    if given is None or request.method in ("GET", "HEAD"):
        return
    content = await request.body()
    body = _parsed(content)
    if body.get("stream"):
        raise InvalidBody(f"a stream cannot be repeated; leave out {HEADER} or `stream`", HEADER)
    seal = Seal(request.headers["authorization"].partition(" ")[2].strip())
    target = request.url.path + "?" + request.url.query
    fingerprint = seal.fingerprint(request.method.encode(), target.encode(), content)
    # A client's key may be made of anything, a user's name too.
    key = hashlib.sha256(given.encode()).hexdigest()
    user_id = _user(request, body)
    until = time.monotonic() + WAIT_SECONDS
    while True:
        now = datetime.now(UTC)
        before = await run_in_threadpool(_claimed_before, services, caller.tenant_id, key, fingerprint, now, user_id)
        if before is None:
            break
        _replay(before, fingerprint, seal)
        if time.monotonic() >= until:
            raise RequestUnderWay("the same request is still being answered; ask again for its answer")
        await asyncio.sleep(_PAUSE_SECONDS)
    setattr(request.state, _CLAIM, _Claim(caller.tenant_id, key, seal, now, user_id))


Idempotent = Depends(_idempotent)


def _claimed_before(
    services: Services, tenant_id: str | None, key: str, fingerprint: str, now: datetime, user_id: str | None
) -> IdempotentRequest | None:
    with services.database.session(tenant_id) as session:
        return claim(session, tenant_id or "", key, fingerprint, now, user_id)


def _replay(before: IdempotentRequest, fingerprint: str, seal: Seal) -> None:
    """Raise what there is to say about a request that came before."""
    if before.fingerprint != fingerprint:
        raise IdempotencyKeyReused(
            f"this {HEADER} was used for another request (method, path, body or API key); use a new one", HEADER
        )
    if before.status is not None and before.body is not None:
        raise Replayed(before.status, seal.open(before.body["sealed"]))


def _parsed(content: bytes) -> dict[str, Any]:
    """The body, as far as it is a JSON object; whether it is valid is for others to say."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _user(request: Request, body: dict[str, Any]) -> str | None:
    """Whose answer this will be. What erases a user must not leave the name behind."""
    named = body.get("user") or (request.path_params.get("user_id") if request.method != "DELETE" else None)
    try:
        return _USER.validate_python(named, strict=True)
    except ValidationError:
        return None  # the endpoint refuses it, so that nothing is kept


class IdempotentOutcomes:
    """Keeps what claimed requests are answered, before the answer is sent."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._database = services.database

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = HEADER.lower().encode()
        if scope["type"] != "http" or all(header != name for header, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = scope["state"]
        held: list[Message] = []

        async def hold(message: Message) -> None:
            if _CLAIM in state:
                held.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold)
        finally:
            if _CLAIM in state:
                await run_in_threadpool(self._end, state[_CLAIM], held, state.get("end_user"))
        for message in held:
            await send(message)

    def _end(self, claimed: _Claim, messages: list[Message], user_id: str | None) -> None:
        status = next((m["status"] for m in messages if m["type"] == "http.response.start"), 500)
        body = b"".join(m.get("body", b"") for m in messages if m["type"] == "http.response.body")
        try:
            claimed.keep(self._database, status, body, user_id)
        except SQLAlchemyError as error:
            # What was done is done, and the caller must hear of it; a repetition waits until the claim lapses.
            logger.error("the answer under an idempotency key is not kept: %s", error)


def install(app: FastAPI, services: Services) -> None:
    """Answer repetitions, keep outcomes."""

    async def on_replayed(request: Request, raised: Exception) -> Response:
        replayed = cast(Replayed, raised)
        again = {"idempotent-replayed": "true"}
        return Response(replayed.body, replayed.status, headers=again, media_type="application/json")

    app.add_exception_handler(Replayed, on_replayed)
    app.add_middleware(IdempotentOutcomes, services=services)
