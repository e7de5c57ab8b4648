"""From a chat request to the engine and back: parameters in force, events, the logged generation."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from psycopg.errors import ForeignKeyViolation
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from cage_core.engine import Answer, DecodeRequest, Event, Failed, Finished, Sampling, Steering, TextDelta
from cage_core.engine.engine import check_steering
from cage_core.engine.sequence import Sequence as RunningAnswer
from cage_core.errors import InvalidDecodeRequest
from learner.errors import UnknownTenant
from learner.exploration import in_force
from learner.parameters import Parameters
from learner.scope import Scope
from learner.store.generations import add_generation
from learner.store.models import Generation
from learner.store.transcripts import may_be_logged
from learner.tracing import tracer
from service.access.limits import Reservation
from service.access.security import TenantCaller
from service.chat.schemas import CageReport, ChatRequest, TokenReport
from service.chat.transcribing import transcript_of
from service.errors import InvalidBody, PrincipalNotLoaded, PromptTooLong, UnknownModel
from service.services import Services


@dataclass(frozen=True)
class Plan:
    """Everything an answer depends on, fixed before its first token: nothing changes inside an answer.

    Attributes:
        begun_seconds: by `time.monotonic`.
        explained: whether the answer says who moved each of its tokens.
    """

    id: str
    created: int
    begun_seconds: float
    caller: TenantCaller
    user_id: str | None
    parameters: Parameters
    request: DecodeRequest
    messages: Sequence[dict[str, str]]
    explained: bool
    reservation: Reservation

    def repeated(self, times: int) -> tuple[Plan, ...]:
        """This plan and others like it, each with an id and a seed of its own."""
        return tuple(self if index == 0 else self._like(index) for index in range(times))

    def _like(self, index: int) -> Plan:
        # The largest seed is followed by the smallest: the store takes 64 bits.
        seed = (self.request.sampling.seed + index + 2**63) % 2**64 - 2**63
        sampling = replace(self.request.sampling, seed=seed)
        return replace(self, id=f"{self.id}-{index}", request=replace(self.request, sampling=sampling))

    def report(self, answer: Answer | None = None) -> CageReport:
        """How the answer is steered; with the answer, also its certificate."""
        steering = self.request.steering
        report = CageReport(
            inference_id=self.id,
            parameter_version=self.parameters.version,
            scope="tenant" if self.parameters.user_id is None else "user",
            weights=dict(steering.weights),
            strength=steering.strength,
            mode=steering.mode,
        )
        if answer is None:
            return report
        return report.model_copy(
            update={
                "largest_gap": answer.largest_gap,
                "mean_kl_nats": answer.mean_kl_nats,
                "sequential_regret_nats": answer.sequential_regret_nats,
                "sequential_bound_nats": answer.sequential_bound_nats,
                "decode_seconds": answer.seconds,
                "features": dict(zip(answer.principals, answer.features, strict=True)),
                "tokens": [TokenReport.of(trace, answer.principals) for trace in answer.traces]
                if self.explained
                else None,
            }
        )


def plan(services: Services, caller: TenantCaller, body: ChatRequest, request: Request) -> Plan:
    """Look up what is in force, put the decode request together and charge it to the limits.

    Raises:
        UnknownModel: another model is asked for.
        PrincipalNotLoaded: the tenant's principals are not this server's.
        InvalidBody: weights name principals the tenant does not have, or the prompt is too long.
        RateLimited: a limit of requests or tokens is reached.
        InvalidDecodeRequest: the prompt does not fit.
    """
    begun_seconds, model = time.monotonic(), services.engine.model
    if body.model != model.name:
        raise UnknownModel(f"model {body.model!r} is not served here; this server has {model.name!r}", "model")
    _check_length(services, body)
    seed = body.seed if body.seed is not None else secrets.randbits(63)
    parameters = in_force(services.parameters.get(Scope(caller.tenant_id, body.user)), caller.tenant.exploration, seed)
    steering = _steering(caller, parameters, body)
    check_steering(steering)
    missing = sorted(steering.weights.keys() - model.principals.keys())
    if missing:
        raise PrincipalNotLoaded(
            f"this tenant uses the principal {missing[0]!r}, which this server has not loaded; the operator must put "
            "it beside the model or make a tenant for the model that is served"
        )
    messages = [message.for_template() for message in body.messages]
    rows = model.plan_rows(messages, steering.weights)
    sampling = _sampling(services, caller, rows.num_prompt_tokens, body, seed)
    most_tokens = len(rows.base_prompt) + (body.n or 1) * sampling.max_tokens
    return Plan(
        id="chatcmpl-" + secrets.token_urlsafe(18),
        created=int(time.time()),
        begun_seconds=begun_seconds,
        caller=caller,
        user_id=body.user,
        parameters=parameters,
        request=DecodeRequest(
            rows=rows,
            steering=steering,
            sampling=sampling,
            traced=body.cage.explain or caller.tenant.stores_traces,
            conversation_scope=None if body.user is None else (caller.tenant_id, body.user),
        ),
        messages=messages,
        explained=body.cage.explain,
        reservation=services.limits.admit(request, caller, body.user, most_tokens),
    )


def _check_length(services: Services, body: ChatRequest) -> None:
    """Refuse what would keep the tokenizer busy for nothing."""
    longest = services.settings.largest_prompt_characters
    num_characters = sum(len(message.for_template()["content"]) for message in body.messages)
    if num_characters > longest:
        raise PromptTooLong(
            f"the conversation has {num_characters} characters, the limit is {longest}; send fewer or shorter messages",
            "messages",
        )


def _steering(caller: TenantCaller, parameters: Parameters, body: ChatRequest) -> Steering:
    weights = dict(zip(parameters.principals, parameters.weights, strict=True))
    if body.cage.weights is not None:
        unknown = sorted(body.cage.weights.keys() - weights.keys())
        if unknown:
            known = ", ".join(weights)
            raise InvalidBody(f"unknown principal {unknown[0]!r}; this tenant's principals: {known}", "cage.weights")
        weights = {name: body.cage.weights.get(name, 0.0) for name in weights}
    strength = caller.tenant.strength if body.cage.strength is None else body.cage.strength
    kl_budget_nats = body.cage.kl_budget_nats
    if kl_budget_nats is None and body.cage.strength is None:
        kl_budget_nats = caller.tenant.kl_budget_nats
    balance = caller.tenant.balance if body.cage.balance is None else body.cage.balance
    mode = body.cage.mode or caller.tenant.mode
    reserves = (
        None if parameters.reserves is None else dict(zip(parameters.principals, parameters.reserves, strict=True))
    )
    return Steering(weights, strength, mode, balance, kl_budget_nats, reserves)


def _sampling(services: Services, caller: TenantCaller, prompt_tokens: int, body: ChatRequest, seed: int) -> Sampling:
    room = services.engine.model.context_tokens - prompt_tokens
    if room < 1:
        raise InvalidDecodeRequest(
            f"the conversation has {prompt_tokens} tokens, the model's context is "
            f"{services.engine.model.context_tokens}; send fewer or shorter messages"
        )
    asked = body.max_completion_tokens or body.max_tokens
    return Sampling(
        max_tokens=asked or min(room, services.settings.default_max_tokens),
        seed=seed,
        temperature=caller.tenant.temperature if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        stop=body.stops,
        num_logprobs=body.num_logprobs,
    )


async def events(services: Services, plans: Sequence[Plan]) -> AsyncGenerator[tuple[int, TextDelta | Finished] | None]:
    """Events of answers that are decoded together, each with its plan's index; ends when all have finished.

    None when nothing came for a while. A generation is logged before its Finished is passed on, so that a vote can
    follow at once. Closing the generator gives the answers up.

    Raises:
        CageError: the engine refuses a request, or one failed.
        TooManyGenerations: the tenant or the key has its share of answers under way.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
    started = time.monotonic()
    running: list[RunningAnswer] = []
    caller, share = plans[0].caller, ExitStack()
    # Not made the current span: a generator's context is its caller's.
    span = tracer.start_span("decode", attributes={"cage.answers": len(plans)})
    try:
        share.enter_context(services.shares.held(caller.tenant_id, caller.key.id, len(plans)))
        for index, planned in enumerate(plans):
            running.append(services.engine.submit(planned.request, _passing_on(loop, arrived, index)))
        silent, num_open = True, len(plans)
        while num_open:
            try:
                index, event = await asyncio.wait_for(arrived.get(), services.settings.keep_alive_seconds)
            except TimeoutError:
                yield None
                continue
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                await run_in_threadpool(_log, services, plans[index], event.answer)
                num_open -= 1
            elif silent:
                silent = False
                services.metrics.first_token_seconds.observe(time.monotonic() - started)
                span.add_event("first token")
            yield index, event
    finally:
        for ticket in running:
            ticket.cancel()
        share.close()
        span.end()
        services.limits.settle(plans[0].reservation, _used_tokens(running))


def _used_tokens(running: Sequence[RunningAnswer]) -> int:
    """Tokens read and written so far; several answers to one prompt read it once."""
    if not running:
        return 0
    return len(running[0].request.rows.base_prompt) + sum(len(answer.tokens) for answer in running)


def _passing_on(
    loop: asyncio.AbstractEventLoop, arrived: asyncio.Queue[tuple[int, Event]], index: int
) -> Callable[[Event], None]:
    """Carries events from the engine's thread into the event loop."""

    def pass_on(event: Event) -> None:
        loop.call_soon_threadsafe(arrived.put_nowait, (index, event))

    return pass_on


def _log(services: Services, planned: Plan, answer: Answer) -> None:
    """Write the answer's generation: what a vote on it will be learned from; and its words, if the tenant wants it.

    Raises:
        UnknownTenant: the tenant was deleted meanwhile.
    """
    now = datetime.now(UTC)
    parameters, steering = planned.parameters, planned.request.steering
    generation = Generation(
        id=planned.id,
        tenant_id=planned.caller.tenant_id,
        user_id=planned.user_id,
        created_at=now,
        model=services.engine.model.name,
        mode=steering.mode,
        parameter_version=parameters.version,
        parameter_user_id=parameters.user_id,
        principals=list(parameters.principals),
        theta=list(parameters.theta),
        weights=list(steering.weights.values()),
        features=list(answer.features),
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        finish_reason=answer.finish_reason,
        largest_gap=answer.largest_gap,
        mean_gap=answer.mean_gap,
        seed=planned.request.sampling.seed,
        solver_seconds=answer.solver_seconds,
        contexts=[asdict(context) for context in answer.contexts],
    )
    try:
        with services.database.session(planned.caller.tenant_id) as session:
            scope = Scope(planned.caller.tenant_id, planned.user_id)
            if may_be_logged(session, scope, parameters) and not _was_erased(services, scope, planned.begun_seconds):
                add_generation(session, generation)
                words = transcript_of(planned.id, planned.caller.tenant, planned.messages, answer, now)
                if words is not None:
                    session.add(words)
    except IntegrityError as error:
        if not isinstance(error.orig, ForeignKeyViolation):
            raise
        raise UnknownTenant("this tenant was deleted while the answer was being made") from error
    services.metrics.on_answer(answer, parameters)


def _was_erased(services: Services, scope: Scope, begun_seconds: float) -> bool:
    """Whether the user was erased since: of one of whom nothing was learned the store cannot tell."""
    return scope.user_id is not None and services.parameters.was_forgotten_since(scope, begun_seconds)
