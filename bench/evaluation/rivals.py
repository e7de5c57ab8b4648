"""Rivals that are no token method of cage_core: averaged adapters, best-of-n, stored reserves, published settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.published import solve_as_published
from cage_core.engine.games import MODES
from cage_core.engine.model import LanguageModel
from cage_core.evaluation.decoder import DecodedAnswer, Decoder, Policy, Question, TokenGames
from cage_core.principals.catalogue import AdapterSource, Principal
from learner.incentives import allocate
from learner.store.generations import StoredContext

PUBLISHED_TEMPERATURE = 0.1
_PUBLISHED_START = 0.0
_CONTEXTS = 120


def base_policy(games: TokenGames) -> Tensor:
    """Nobody pays."""
    return games.base_log_probs.exp()


def published_policy(weights: Tensor, strength: float) -> Policy:
    """The solver settings of the published experiments, strength a factor on their payoffs.

    Args:
        weights: [answers, J].
    """

    def decide(games: TokenGames) -> Tensor:
        policy = torch.zeros_like(games.base_log_probs)
        payoffs = strength * weights[games.answers][:, :, None] * games.rewards
        for row, (log_base, worth) in enumerate(zip(games.base_log_probs, payoffs, strict=True)):
            kept = torch.isfinite(log_base)
            solved = solve_as_published(
                log_base[kept].numpy(), worth[:, kept].numpy(), PUBLISHED_TEMPERATURE, _PUBLISHED_START
            )
            policy[row, kept] = torch.from_numpy(solved.policy)
        return policy

    return decide


def averaged_adapter(sources: Sequence[Path], factors: Sequence[float], out: Path) -> Path:
    """Write the weighted sum of LoRA adapters as one adapter: their matrices side by side.

    Args:
        sources: directories of adapters of rank r_j on the same modules.
        factors: what each one's update is multiplied with.
    """
    out.mkdir(parents=True)
    configs = [json.loads((path / "adapter_config.json").read_text()) for path in sources]
    tensors = [load_file(path / "adapter_model.safetensors") for path in sources]
    scales = [c["lora_alpha"] / c["r"] * f for c, f in zip(configs, factors, strict=True)]
    joined: dict[str, Tensor] = {}
    for name in tensors[0]:
        if "lora_A" in name:
            joined[name] = torch.cat([each[name] for each in tensors]).contiguous()
        else:
            parts = [scale * each[name] for scale, each in zip(scales, tensors, strict=True)]
            joined[name] = torch.cat(parts, dim=1).contiguous()
    rank = sum(config["r"] for config in configs)
    save_file(joined, out / "adapter_model.safetensors")
    merged = {**configs[0], "r": rank, "lora_alpha": rank, "use_rslora": False}
    (out / "adapter_config.json").write_text(json.dumps(merged))
    return out


def soup_model(
    checkpoint: Path, principals: Sequence[str], factors: Sequence[float], context_tokens: int
) -> LanguageModel:
    """The base with one principal, "soup": the principals' adapters, averaged (rewarded soups: Ramé et al. 2023)."""
    with TemporaryDirectory() as folder:
        sources = [checkpoint / "principals" / name for name in principals]
        path = averaged_adapter(sources, factors, Path(folder) / "soup")
        soup = Principal("soup", AdapterSource(), "averaged adapters", 1.0, path)
        return LanguageModel(checkpoint, [soup], longest_tokens=context_tokens)


def stored_reserves(
    decoder: Decoder, questions: Sequence[Question], weights: Sequence[Sequence[float]], strength: float
) -> list[list[float]]:
    """For every weight vector, the reserves of the learner's dynamics on contexts of answers to other questions."""
    contexts = token_contexts(decoder, questions)
    rows = []
    for each in weights:
        named = dict(zip(decoder.principals, each, strict=True))
        allocation = allocate(contexts, named, strength)
        rows.append([MODES["committed"]] * len(each) if allocation is None else list(allocation.reserves))
    return rows


def token_contexts(decoder: Decoder, questions: Sequence[Question]) -> list[StoredContext]:
    """Games of contested tokens, met while the plain model answers."""
    found: list[StoredContext] = []

    def watch(games: TokenGames) -> Tensor:
        for base, rewards in zip(games.base_log_probs, games.rewards, strict=True):
            kept = torch.isfinite(base)
            if int(kept.sum()) > 1:
                found.append(StoredContext(decoder.principals, base[kept].tolist(), rewards[:, kept].tolist()))
        return games.base_log_probs.exp()

    decoder.decode(questions, watch)
    order = np.random.default_rng(0).permutation(len(found))[:_CONTEXTS]
    return [found[index] for index in order]


def best_of(samples: Sequence[DecodedAnswer], weights: Sequence[float]) -> DecodedAnswer:
    """The sample that the principals like best: largest weighted sum of their log-ratios to the base."""
    return max(samples, key=lambda sample: float(np.dot(weights, sample.advantages)))
