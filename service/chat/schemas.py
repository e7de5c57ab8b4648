"""Bodies of chat completions: OpenAI's fields, and this service's own under the one key `cage`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, field_validator

from cage_core.engine import MODES, TokenLogprob, TokenTrace

_MAX_MESSAGES = 500
_MAX_STOPS = 4
_MAX_STOP_CHARACTERS = 200

UserId = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
# The bound makes the validator refuse lone surrogates, which no tokenizer and no database takes.
Text = Annotated[str, StringConstraints(max_length=1_000_000)]
Weight = Annotated[FiniteFloat, Field(ge=0, le=1000)]


class TextPart(BaseModel):
    """A piece of a message; only text is understood."""

    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """One turn of the conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]
    name: str | None = None
    # An answer of this server, or of OpenAI's, can be sent back as it is.
    refusal: None = None
    annotations: list[None] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None

    def for_template(self) -> dict[str, str]:
        """The message as chat templates expect it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class TextFormat(BaseModel):
    """The only form of answer there is."""

    type: Literal["text"]


class CageOptions(BaseModel):
    """How this one answer is steered; what is left out is the tenant's and the user's."""

    model_config = ConfigDict(extra="forbid")

    weights: dict[str, Weight] | None = Field(
        default=None,
        description="Preference weights by principal instead of the learned ones; principals left out weigh 0.",
    )
    strength: Weight | None = Field(default=None, description="Steering strength; 0 is the plain model.")
    mode: str | None = Field(default=None, description=f"How principals combine: {', '.join(MODES)}.")
    balance: Weight | None = Field(
        default=None,
        description="How much weights adapt within the answer towards principals that it has served least.",
    )
    kl_budget_nats: Annotated[FiniteFloat, Field(gt=0, le=100)] | None = Field(
        default=None, description="KL of every token's policy to the plain model, instead of a strength."
    )
    explain: bool = Field(default=False, description="Whether the answer says who moved each of its tokens.")


class StreamOptions(BaseModel):
    """What a stream carries besides text."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """`POST /v1/chat/completions`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "model": "cage-pocket",
                    "user": "ada",
                    "messages": [{"role": "user", "content": "How can I sleep better?"}],
                }
            ]
        },
    )

    model: str
    messages: Annotated[list[Message], Field(min_length=1, max_length=_MAX_MESSAGES)]
    user: UserId | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[FiniteFloat, Field(ge=0, le=2)] | None = None
    top_p: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Text | list[Text] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    metadata: dict[str, str] | None = None
    tools: None = None
    tool_choice: None = None
    response_format: TextFormat | None = None
    cage: CageOptions = Field(default_factory=CageOptions)

    @field_validator("messages")
    @classmethod
    def _something_is_said(cls, messages: list[Message]) -> list[Message]:
        if not messages[-1].for_template()["content"].strip():
            raise ValueError("the last message is empty; send some text")
        return messages

    @field_validator("stop")
    @classmethod
    def _stops_are_short(cls, stop: str | list[str] | None) -> str | list[str] | None:
        stops = [stop] if isinstance(stop, str) else stop or []
        if len(stops) > _MAX_STOPS or not all(0 < len(s) <= _MAX_STOP_CHARACTERS for s in stops):
            raise ValueError(f"at most {_MAX_STOPS} stop texts of 1 to {_MAX_STOP_CHARACTERS} characters")
        return stop

    @property
    def num_logprobs(self) -> int | None:
        """How many alternatives are reported with each token; None when none were asked for."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop texts."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TokenReport(BaseModel):
    """Who moved one token; amounts in payoff units, by principal."""

    token: str
    base_probability: float = Field(description="Of the plain model, among the plausible tokens.")
    probability: float = Field(description="Of the final policy.")
    weights: dict[str, float] = Field(description="What each principal bid with, adapted to the answer so far.")
    incentives: dict[str, float] = Field(description="What each principal paid for this token.")
    reserves: dict[str, float] = Field(description="What each principal kept: it pays for tokens worth more to it.")
    externalities: dict[str, float] = Field(description="What each principal's presence cost the others here.")
    gap: float

    @classmethod
    def of(cls, trace: TokenTrace, principals: Sequence[str]) -> Self:
        """The engine's trace, by principal."""

        def named(amounts: Sequence[float]) -> dict[str, float]:
            return dict(zip(principals, amounts, strict=True))

        return cls(
            token=trace.text,
            base_probability=trace.base_probability,
            probability=trace.probability,
            weights=named(trace.weights),
            incentives=named(trace.incentives),
            reserves=named(trace.reserves),
            externalities=named(trace.externalities),
            gap=trace.gap,
        )


class CageReport(BaseModel):
    """How an answer was steered, and the certificate of its equilibria."""

    inference_id: str = Field(description="What feedback on this answer refers to.")
    parameter_version: int = Field(description="Version of the learned parameters in force; 0 before any learning.")
    scope: Literal["user", "tenant"] = Field(description="Whose parameters were in force.")
    weights: dict[str, float]
    strength: float
    mode: str
    largest_gap: float | None = Field(
        default=None, description="Most that any principal could gain by deviating alone at any token, payoff units."
    )
    mean_kl_nats: float | None = Field(
        default=None, description="Mean KL of the final policy to the plain model, per token."
    )
    sequential_regret_nats: float | None = Field(
        default=None,
        description="Regret within the answer, per token; null where weights do not adapt to the answer.",
    )
    sequential_bound_nats: float | None = Field(
        default=None, description="What theory promises for the regret within the answer, for the tokens as they came."
    )
    decode_seconds: float | None = Field(
        default=None, description="Time in the decoder, waiting for a place in the batch included."
    )
    features: dict[str, float] | None = Field(
        default=None,
        description="How far the answer went each principal's way, in standard deviations of ordinary answers.",
    )
    tokens: list[TokenReport] | None = Field(default=None, description="One for each token, if `explain` was set.")


class Logprob(BaseModel):
    """A token and its log-probability under the final policy."""

    token: str
    logprob: float
    bytes: list[int]

    @classmethod
    def of(cls, entry: TokenLogprob) -> Self:
        """The engine's entry in OpenAI's form."""
        return cls(token=entry.text, logprob=entry.logprob, bytes=list(entry.text.encode()))


class ChosenLogprob(Logprob):
    """The chosen token, and the likeliest ones in its place."""

    top_logprobs: list[Logprob] = []


class Logprobs(BaseModel):
    """One entry for each token of a message or chunk."""

    content: list[ChosenLogprob]
    refusal: None = None

    @classmethod
    def of_tokens(cls, entries: Sequence[TokenLogprob]) -> Self:
        """The engine's entries in OpenAI's form."""
        content = []
        for entry in entries:
            chosen = ChosenLogprob.of(entry)
            chosen.top_logprobs = [Logprob.of(alternative) for alternative in entry.alternatives]
            content.append(chosen)
        return cls(content=content)


class AnswerMessage(BaseModel):
    """The assistant's turn."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    """One answer."""

    index: int = 0
    message: AnswerMessage
    logprobs: Logprobs | None = None
    finish_reason: Literal["stop", "length"]
    cage: CageReport | None = Field(default=None, description="How this answer was steered, where `n` is above 1.")


class ChatCompletion(BaseModel):
    """A whole answer; `id` is what feedback refers to."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    cage: CageReport


def chunk(frame: dict[str, Any], choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """One `chat.completion.chunk` of a stream.

    Args:
        frame: id, created and model of the completion.
    """
    return {**frame, "object": "chat.completion.chunk", "choices": choices, **more}
