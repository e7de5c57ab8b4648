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
from service.access.idempotency import Idempotent
from service.access.security import AnyCaller, GenerateCaller
from service.chat.decoding import Plan, events, plan
from service.chat.schemas import AnswerMessage, ChatCompletion, ChatRequest, Choice, Logprobs, Usage, chunk
from service.dependencies import ServicesDep
from service.services import Services

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/v1", tags=["chat"])

Arrival = tuple[int, TextDelta | Finished] | None

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
def list_models(services: ServicesDep, caller: AnyCaller) -> Models:
    """The one model of this server."""
    return Models(data=[Model(id=services.engine.model.name, created=0, owned_by="cage")])


@router.post(
    "/chat/completions",
    summary="Answer a conversation under the user's learned preferences",
    response_model=ChatCompletion,
    responses={200: {"content": {"text/event-stream": {}}}},
    dependencies=[Idempotent],
)
async def create_completion(
    services: ServicesDep, caller: GenerateCaller, body: ChatRequest, request: Request
) -> Response:
    """OpenAI's chat completions; pass the end user as `user`, and the answer's `id` with feedback."""
    planned = await run_in_threadpool(plan, services, caller, body, request)
    plans = planned.repeated(body.n or 1)
    if body.stream:
        return await _stream(services, plans, body)
    answers: dict[int, Answer] = {}
    async with aclosing(events(services, plans)) as source:
        async for arrival in source:
            if arrival is not None and isinstance(arrival[1], Finished):
                answers[arrival[0]] = arrival[1].answer
            elif await request.is_disconnected():
                return Response(status_code=_CLIENT_LEFT)
    completion = _completion(services, plans, [answers[index] for index in range(len(plans))])
    # It is valid as it was built; FastAPI would validate and convert it once more.
    return Response(completion.model_dump_json(), media_type="application/json")


def _completion(services: Services, plans: Sequence[Plan], answers: Sequence[Answer]) -> ChatCompletion:
    reports = [planned.report(answer) for planned, answer in zip(plans, answers, strict=True)]
    choices = [
        Choice(
            index=index,
            message=AnswerMessage(content=answer.text),
            finish_reason=answer.finish_reason,
            logprobs=_logprobs(plans[index], answer.logprobs),
            cage=reports[index] if len(plans) > 1 else None,
        )
        for index, answer in enumerate(answers)
    ]
    return ChatCompletion(
        id=plans[0].id,
        created=plans[0].created,
        model=services.engine.model.name,
        choices=choices,
        usage=_usage(answers),
        cage=reports[0],
    )


def _usage(answers: Sequence[Answer]) -> Usage:
    num_prompt, num_completion = answers[0].prompt_tokens, sum(answer.completion_tokens for answer in answers)
    return Usage(prompt_tokens=num_prompt, completion_tokens=num_completion, total_tokens=num_prompt + num_completion)


async def _stream(services: Services, plans: Sequence[Plan], body: ChatRequest) -> StreamingResponse:
    """Wait for the first event, so that a refusal still has its own status, then stream."""
    source = events(services, plans)
    first = await anext(source)
    include_usage = body.stream_options is not None and body.stream_options.include_usage
    lines = _lines(services, plans, first, source, include_usage)
    return StreamingResponse(lines, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _lines(
    services: Services, plans: Sequence[Plan], first: Arrival, source: AsyncGenerator[Arrival], include_usage: bool
) -> AsyncIterator[str]:
    frame = {"id": plans[0].id, "created": plans[0].created, "model": services.engine.model.name}
    for index, planned in enumerate(plans):
        role = _choice(index, {"role": "assistant", "content": ""})
        yield _data(chunk(frame, [role], cage=planned.report().model_dump(exclude_none=True)))
    answers: dict[int, Answer] = {}
    num_logprobs = [0] * len(plans)
    arrival = first
    try:
        async with aclosing(source):
            while True:
                if arrival is None:
                    yield _KEEP_ALIVE
                elif isinstance(arrival[1], Finished):
                    index, answer = arrival[0], arrival[1].answer
                    answers[index] = answer
                    yield _end(frame, index, plans[index], answer, answer.logprobs[num_logprobs[index] :])
                else:
                    index, delta = arrival[0], arrival[1]
                    num_logprobs[index] += len(delta.logprobs)
                    yield _data(chunk(frame, [_delta(index, plans[index], delta)]))
                if len(answers) == len(plans):
                    break
                arrival = await anext(source)
    except Exception as error:
        logger.exception("a stream failed")
        _, type_, code = errors.describe(error)
        yield _data(errors.error_body(errors.public_message(error), type_, code=code))
        return
    if include_usage:
        yield _data(chunk(frame, [], usage=_usage([answers[index] for index in sorted(answers)]).model_dump()))
    yield "data: [DONE]\n\n"


def _end(frame: dict[str, Any], index: int, planned: Plan, answer: Answer, unsent: Sequence[TokenLogprob]) -> str:
    """The chunk that ends one choice; with the log-probabilities of tokens that completed no text."""
    end = _choice(index, {}, answer.finish_reason)
    if unsent:
        end["logprobs"] = Logprobs.of_tokens(unsent).model_dump()
    return _data(chunk(frame, [end], cage=planned.report(answer).model_dump(exclude_none=True)))


def _delta(index: int, planned: Plan, event: TextDelta) -> dict[str, Any]:
    logprobs = _logprobs(planned, event.logprobs)
    return {**_choice(index, {"content": event.text}), "logprobs": logprobs and logprobs.model_dump()}


def _logprobs(planned: Plan, entries: Sequence[TokenLogprob]) -> Logprobs | None:
    asked = planned.request.sampling.num_logprobs is not None
    return Logprobs.of_tokens(entries) if asked else None


def _choice(index: int, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _data(payload: dict[str, Any]) -> str:
    return f"data: {json.dumps(payload, ensure_ascii=False)}\n\n"
