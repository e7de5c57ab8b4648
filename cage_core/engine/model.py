"""The frozen language model with all its principals."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from cage_core.engine.checkpoint import load_causal_model, load_tokenizer
from cage_core.engine.networks import CausalNetwork, network_of
from cage_core.engine.rows import BASE_NETWORK, Row, RowPlan, RowPlanner
from cage_core.errors import InvalidDecodeRequest, InvalidModel
from cage_core.principals.adapters import install_adapters, read_adapter
from cage_core.principals.catalogue import AdapterSource, LexicalSource, ModelSource, Principal, PromptSource

Messages = Sequence[Mapping[str, str]]


class LanguageModel:
    """A base model, its tokenizer, and the networks and scores of its principals.

    Attributes:
        name: what clients ask for; the directory's name unless given.
        context_tokens: longest prompt plus answer.
        networks: the base with its adapters first, then the models of weak-to-strong principals.
        lexicons: [lexical principals, vocabulary] fixed scores, nats.
        end_tokens: tokens that end an answer.
    """

    def __init__(
        self,
        path: Path,
        principals: Sequence[Principal],
        *,
        name: str | None = None,
        device: str = "cpu",
        longest_tokens: int = 4096,
    ) -> None:
        """Load a checkpoint directory in Hugging Face format and its principals.

        Args:
            longest_tokens: cap on the context, whose memory is taken for every row of the cache.
        Raises:
            InvalidModel: a file is missing or does not fit; the message names it.
        """
        self.name = name or path.name
        self.principals = {p.name: p for p in principals}
        self.device = torch.device(device)
        self._tokenizer: Any = load_tokenizer(path)
        self._control_tokens = _control_tokens(self._tokenizer)
        self._decode = _decoder(self._tokenizer)
        self._texts: dict[int, str] = {}
        self._longest_token_characters = max(map(len, self._tokenizer.get_vocab()))
        if not self._tokenizer.chat_template:
            raise InvalidModel(f"{path}: tokenizer_config.json has no chat_template; add one")
        base = load_causal_model(path, self.device)
        self.end_tokens = _end_tokens(base, self._tokenizer, path)
        adapted = [p for p in principals if isinstance(p.source, AdapterSource)]
        routing = install_adapters(base, [(p.name, read_adapter(p.path)) for p in adapted]) if adapted else None
        self._adapter_of = {p.name: number for number, p in enumerate(adapted, start=1)}
        self._longest_tokens = longest_tokens
        self.networks: list[CausalNetwork] = [network_of(base, self.device, longest_tokens, routing)]
        self._network_at: dict[Path, int] = {}
        for principal in principals:
            if isinstance(principal.source, ModelSource):
                self._load_guide(principal.name, principal.source)
        self.context_tokens = min(network.context_tokens for network in self.networks)
        self.lexicons, self._lexicon_of = self._read_lexicons(principals)

    def _load_guide(self, name: str, source: ModelSource) -> None:
        vocabulary = self._tokenizer.get_vocab()
        for path in (source.tuned, source.base):
            if path in self._network_at:
                continue
            if load_tokenizer(path).get_vocab() != vocabulary:
                raise InvalidModel(f"principal {name!r}: {path} has another tokenizer than the base model")
            self._network_at[path] = len(self.networks)
            self.networks.append(network_of(load_causal_model(path, self.device), self.device, self._longest_tokens))

    def _read_lexicons(self, principals: Sequence[Principal]) -> tuple[Tensor, dict[str, int]]:
        lexical = [(p.name, p.source) for p in principals if isinstance(p.source, LexicalSource)]
        scores = torch.zeros(len(lexical), self.networks[BASE_NETWORK].vocabulary_size, device=self.device)
        for index, (name, source) in enumerate(lexical):
            for text, score in source.scores.items():
                tokens = self._tokenizer.encode(text, add_special_tokens=False)
                if len(tokens) != 1:
                    raise InvalidModel(f"principal {name!r}: {text!r} is {len(tokens)} tokens of the model, not one")
                scores[index, tokens[0]] = score
        return scores, {name: index for index, (name, _) in enumerate(lexical)}

    def plan_rows(self, messages: Messages, principals: Iterable[str]) -> RowPlan:
        """The rows that an answer to `messages` needs under the named principals, in their order.

        Args:
            messages: {"role": "system" | "user" | "assistant", "content": text}, oldest first.
        Raises:
            InvalidDecodeRequest: a principal is not loaded, or the chat template refuses the messages.
        """
        planner = RowPlanner(self.encode_chat(messages))
        for name in principals:
            self._plan_reward(planner, self._principal(name), messages)
        return planner.plan()

    def _plan_reward(self, planner: RowPlanner, principal: Principal, messages: Messages) -> None:
        prompt = planner.base_prompt
        match principal.source:
            case AdapterSource():
                planner.reward(planner.row(Row(BASE_NETWORK, self._adapter_of[principal.name], prompt)))
            case PromptSource(directive):
                directed = self.encode_chat(_with_directive(messages, directive))
                planner.reward(planner.row(Row(BASE_NETWORK, 0, directed)))
            case ModelSource(tuned, base):
                plus = planner.row(Row(self._network_at[tuned], 0, prompt))
                planner.reward(plus, planner.row(Row(self._network_at[base], 0, prompt)))
            case LexicalSource():
                planner.reward(0, 0, self._lexicon_of[principal.name])

    def _principal(self, name: str) -> Principal:
        try:
            return self.principals[name]
        except KeyError:
            known = ", ".join(self.principals) or "none"
            raise InvalidDecodeRequest(f"unknown principal {name!r}; loaded principals: {known}") from None

    def feature_scales(self, principals: Iterable[str]) -> tuple[float, ...]:
        """Feature scale of each named principal, nats."""
        return tuple(self._principal(name).feature_scale for name in principals)

    def encode_chat(self, messages: Messages) -> tuple[int, ...]:
        """Tokens of a conversation, ready for the assistant's answer.

        Raises:
            InvalidDecodeRequest: the conversation is longer than any context, or the chat template refuses it.
        """
        num_characters = sum(len(m["content"]) for m in messages)
        if num_characters > self.context_tokens * self._longest_token_characters:
            raise InvalidDecodeRequest(
                f"the conversation has {num_characters} characters, the model's context is {self.context_tokens} "
                "tokens; send fewer or shorter messages"
            )
        # A space in a control token's place: nothing can come together from what is left beside it.
        plain = [{**m, "content": self._control_tokens.sub(" ", m["content"])} for m in messages]
        try:
            text = self._tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # templates are programs of the checkpoint: they raise what they like
            raise InvalidDecodeRequest(f"the model's chat template refuses these messages: {error}") from error
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special tokens left out."""
        if len(tokens) != 1:
            return self._decode(tokens)
        # Every token of every answer is asked for by itself once; there are no more of them than the vocabulary has.
        known = self._texts.get(tokens[0])
        if known is None:
            known = self._texts[tokens[0]] = self._decode(tokens)
        return known


def _decoder(tokenizer: Any) -> Callable[[Sequence[int]], str]:
    """Tokens to text without special tokens; past transformers' checks of its arguments where it adds nothing else."""
    plain = type(tokenizer) is PreTrainedTokenizerFast and not tokenizer.clean_up_tokenization_spaces
    decode = tokenizer.backend_tokenizer.decode if plain else tokenizer.decode
    return lambda tokens: cast(str, decode(list(tokens), skip_special_tokens=True))


def _with_directive(messages: Messages, directive: str) -> list[Mapping[str, str]]:
    """The conversation with `directive` in its system message."""
    first, *rest = messages
    if first["role"] == "system":
        return [{**first, "content": f"{first['content']}\n{directive}"}, *rest]
    return [{"role": "system", "content": directive}, *messages]


def _control_tokens(tokenizer: Any) -> re.Pattern[str]:
    """Every token that stands for more than its text, so that no message can close its own turn."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    texts = sorted(added | set(tokenizer.all_special_tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, texts)) or r"(?!)")


def _end_tokens(model: Any, tokenizer: Any, path: Path) -> frozenset[int]:
    """Tokens that end an answer: the generation config's, else the tokenizer's."""
    configured = model.generation_config.eos_token_id
    if configured is None:
        configured = tokenizer.eos_token_id
    if configured is None:
        raise InvalidModel(f"{path} names no end-of-sequence token; set eos_token_id in generation_config.json")
    return frozenset(configured if isinstance(configured, list) else [configured])
