"""`POST /v1/chat/completions`, whole or as a stream, and `GET /v1/models`."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from cage_core.engine import Answer, Finished, TextDelta, TokenLogprob
from service import errors
from service.chat_schemas import AnswerMessage, ChatCompletion, ChatRequest, Choice, Logprobs, Usage, chunk
from service.decoding import Plan, events, plan
from service.dependencies import ServicesDep
from service.security import CallerDep
from service.services import Services

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/v1", tags=["chat"])

_KEEP_ALIVE = ": keep-alive\n\n"
_CLIENT_LEFT = 499  # nobody reads this answer; the status is for the metrics


class Model(BaseModel):
    """A model that can be asked for."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class Models(BaseModel):
    """All models that can be asked for."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/models", summary="Models served here")
def list_models(services: ServicesDep, caller: CallerDep) -> Models:
    """The one model of this server."""
    return Models(data=[Model(id=services.engine.model.name, created=0, owned_by="cage")])


@router.post(
    "/chat/completions",
    summary="Answer a conversation under the user's learned preferences",
    response_model=ChatCompletion,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def create_completion(
    services: ServicesDep, caller: CallerDep, body: ChatRequest, request: Request
) -> Response | ChatCompletion:
    """OpenAI's chat completions; pass the end user as `user`, and the answer's `id` with feedback."""
    planned = await run_in_threadpool(plan, services, caller, body)
    if body.stream:
        return await _stream(services, planned, body)
    async with aclosing(events(services, planned)) as source:
        async for event in source:
            if isinstance(event, Finished):
                return _completion(services, planned, event.answer)
            if await request.is_disconnected():
                break
    return Response(status_code=_CLIENT_LEFT)


def _completion(services: Services, planned: Plan, answer: Answer) -> ChatCompletion:
    choice = Choice(
        message=AnswerMessage(content=answer.text),
        finish_reason=answer.finish_reason,
        logprobs=_logprobs(planned, answer.logprobs),
    )
    return ChatCompletion(
        id=planned.id,
        created=planned.created,
        model=services.engine.model.name,
        choices=[choice],
        usage=_usage(answer),
        cage=planned.report(answer),
    )


def _usage(answer: Answer) -> Usage:
    return Usage(
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        total_tokens=answer.prompt_tokens + answer.completion_tokens,
    )


async def _stream(services: Services, planned: Plan, body: ChatRequest) -> StreamingResponse:
    """Wait for the first event, so that a refusal still has its own status, then stream."""
    source = events(services, planned)
    first = await anext(source)
    include_usage = body.stream_options is not None and body.stream_options.include_usage
    lines = _lines(services, planned, first, source, include_usage)
    return StreamingResponse(lines, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _lines(
    services: Services,
    planned: Plan,
    first: TextDelta | Finished | None,
    source: AsyncGenerator[TextDelta | Finished | None],
    include_usage: bool,
) -> AsyncIterator[str]:
    frame = {"id": planned.id, "created": planned.created, "model": services.engine.model.name}
    role = _choice({"role": "assistant", "content": ""})
    yield _data(chunk(frame, [role], cage=planned.report().model_dump(exclude_none=True)))
    event = first
    num_logprobs = 0
    try:
        async with aclosing(source):
            while not isinstance(event, Finished):
                if event is None:
                    yield _KEEP_ALIVE
                else:
                    num_logprobs += len(event.logprobs)
                    yield _data(chunk(frame, [_delta(planned, event)]))
                event = await anext(source)
    except Exception as error:
        logger.exception("a stream failed")
        _, type_, code = errors.describe(error)
        yield _data(errors.error_body(errors.public_message(error), type_, code=code))
        return
    answer = event.answer
    report = planned.report(answer).model_dump(exclude_none=True)
    end = _choice({}, answer.finish_reason)
    if answer.logprobs[num_logprobs:]:
        end["logprobs"] = Logprobs.of_tokens(answer.logprobs[num_logprobs:]).model_dump()
    yield _data(chunk(frame, [end], cage=report))
    if include_usage:
        yield _data(chunk(frame, [], usage=_usage(answer).model_dump()))
    yield "data: [DONE]\n\n"


def _delta(planned: Plan, event: TextDelta) -> dict[str, Any]:
    logprobs = _logprobs(planned, event.logprobs)
    return {**_choice({"content": event.text}), "logprobs": logprobs and logprobs.model_dump()}


def _logprobs(planned: Plan, entries: Sequence[TokenLogprob]) -> Logprobs | None:
    asked = planned.request.sampling.num_logprobs is not None
    return Logprobs.of_tokens(entries) if asked else None


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _data(payload: dict[str, Any]) -> str:
    return f"data: {json.dumps(payload, ensure_ascii=False)}\n\n"
