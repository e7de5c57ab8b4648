"""The official client, unmodified, against the running server."""

from collections.abc import Iterator

import openai
import pytest

from tests.service.conftest import MODEL, Stack, TenantClient

QUESTION = [{"role": "user", "content": "How do I keep a house plant alive?"}]


@pytest.fixture
def client(stack: Stack, tenant: TenantClient) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=tenant.key, max_retries=0) as client:
        yield client


def test_a_whole_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, user="ada", seed=1)
    assert answer.id.startswith("chatcmpl-")
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_the_same_as_the_whole_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=QUESTION, user="ada", seed=2)
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=QUESTION, user="ada", seed=2, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert len({c.id for c in chunks}) == 1


def test_max_tokens_stop_and_greedy(client: openai.OpenAI) -> None:
    short = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=3)
    assert (short.usage.completion_tokens, short.choices[0].finish_reason) == (3, "length")
    greedy = [client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0) for _ in range(2)]
    assert greedy[0].choices[0].message.content == greedy[1].choices[0].message.content
    stopped = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, stop=["."])
    assert stopped.choices[0].message.content == greedy[0].choices[0].message.content.split(".")[0]


def test_weights_by_hand_and_the_report(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        extra_body={"cage": {"weights": {"warmth": 1}, "strength": 2, "mode": "linear"}},
    )
    report = answer.cage
    assert report["weights"] == {"brevity": 0, "caution": 0, "detail": 0, "warmth": 1}
    assert (report["strength"], report["mode"], report["parameter_version"]) == (2, "linear", 0)
    assert report["largest_gap"] <= 1e-8


def test_several_answers_can_each_be_voted_on(client: openai.OpenAI, tenant: TenantClient) -> None:
    asked = {"model": MODEL, "messages": QUESTION, "user": "ada", "seed": 9, "n": 3}
    whole = client.chat.completions.create(**asked)
    texts = [choice.message.content for choice in whole.choices]
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert len(set(texts)) > 1
    assert whole.choices[0].cage["inference_id"] == whole.id
    for choice in whole.choices:
        tenant.vote(choice.cage["inference_id"], "up")
    tenant.wait_for_votes(3)

    weights = {"brevity": 0.25, "caution": 0.25, "detail": 0.25, "warmth": 0.25}
    again = {**asked, "extra_body": {"cage": {"weights": weights}}, "stream_options": {"include_usage": True}}
    streamed = ["", "", ""]
    ends = []
    for part in client.chat.completions.create(**again, stream=True):
        for choice in part.choices:
            streamed[choice.index] += choice.delta.content or ""
            ends += [choice.index] if choice.finish_reason else []
    assert streamed == texts
    assert sorted(ends) == [0, 1, 2]
    assert part.usage.completion_tokens == whole.usage.completion_tokens


def test_an_answer_can_be_sent_back_as_it_is(client: openai.OpenAI) -> None:
    messages = list(QUESTION)
    messages.append(client.chat.completions.create(model=MODEL, messages=messages).choices[0].message)
    messages.append({"role": "user", "content": "Tell me more."})
    second = client.chat.completions.create(model=MODEL, messages=messages, response_format={"type": "text"})
    assert second.choices[0].message.content


def test_logprobs_end_where_the_text_ends(client: openai.OpenAI) -> None:
    asked = {"model": MODEL, "messages": QUESTION, "temperature": 0, "logprobs": True, "stop": [" "]}
    whole = client.chat.completions.create(**asked).choices[0]
    assert "".join(entry.token for entry in whole.logprobs.content) == whole.message.content
    chunks = [c.choices[0] for c in client.chat.completions.create(**asked, stream=True)]
    streamed = [entry for choice in chunks if choice.logprobs for entry in choice.logprobs.content]
    assert streamed == whole.logprobs.content


def test_logprobs_whole_and_streamed(client: openai.OpenAI) -> None:
    asked = {"model": MODEL, "messages": QUESTION, "seed": 5, "max_tokens": 8, "logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**asked).choices[0]
    assert "".join(entry.token for entry in whole.logprobs.content) == whole.message.content
    for entry in whole.logprobs.content:
        assert entry.logprob <= 1e-9
        assert 1 <= len(entry.top_logprobs) <= 2
        assert entry.top_logprobs[0].logprob >= entry.logprob - 1e-9
    chunks = [c.choices[0] for c in client.chat.completions.create(**asked, stream=True)]
    streamed = [entry for choice in chunks if choice.logprobs for entry in choice.logprobs.content]
    assert streamed == whole.logprobs.content


def test_an_explained_answer_says_who_moved_each_token(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, extra_body={"cage": {"explain": True}})
    tokens = answer.cage["tokens"]
    assert len(tokens) == answer.usage.completion_tokens
    assert "".join(token["token"] for token in tokens) == answer.choices[0].message.content
    for token in tokens:
        assert set(token["incentives"]) == set(answer.cage["weights"])
        assert min(token["externalities"].values()) >= 0
    assert any(max(token["incentives"].values()) > 0 for token in tokens)


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError),
        ({"messages": []}, openai.UnprocessableEntityError),
        ({"max_tokens": 100_000}, openai.UnprocessableEntityError),
        ({"extra_body": {"cage": {"weights": {"greed": 1}}}}, openai.UnprocessableEntityError),
    ],
)
def test_errors_are_the_clients_own_classes(client: openai.OpenAI, arguments: dict, error: type) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(**{"model": MODEL, "messages": QUESTION, **arguments})
    assert caught.value.body["type"] == "invalid_request_error"


def test_a_wrong_key(stack: Stack) -> None:
    stranger = openai.OpenAI(base_url=f"{stack.url}/v1", api_key="cage_wrong")
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()
