"""Models of several families, each with two adapters, row by row against transformers and PEFT."""

from pathlib import Path

import pytest
import torch
from transformers import (
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from cage_core.engine import LanguageModel
from cage_core.principals.catalogue import find_principals
from tests.cage_core.engine.direct import direct_log_probs
from tests.checkpoints import make_adapter, make_checkpoint_of

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
FAMILIES = {
    "qwen2": Qwen2Config(**SMALL),
    "qwen3": Qwen3Config(**SMALL, head_dim=8),
    "mistral-sliding": MistralConfig(**SMALL, sliding_window=6),
    "gemma": GemmaConfig(**SMALL, head_dim=8),
    "gemma2-softcap-sliding": Gemma2Config(**SMALL, head_dim=8, sliding_window=6),
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3),
}


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES.keys())
def test_rows_equal_their_own_models(config: PretrainedConfig, tmp_path: Path) -> None:
    checkpoint = make_checkpoint_of(config, tmp_path / "model")
    adapters = [tmp_path / "principals" / name for name in ("first", "second")]
    for seed, (adapter, rank) in enumerate(zip(adapters, (2, 4), strict=True)):
        make_adapter(checkpoint, adapter, seed=seed, rank=rank, targets="all-linear")
    network = LanguageModel(checkpoint, find_principals(tmp_path / "principals")).networks[0]

    tokens = torch.randint(0, 250, (24,), generator=torch.Generator().manual_seed(1)).tolist()
    num_prompt, kinds, cache = 8, torch.tensor([0, 1, 2]), network.new_cache(3)
    prompt = torch.tensor(tokens[:num_prompt]).expand(3, -1)
    positions = torch.arange(num_prompt).expand(3, -1)
    steps = [network.next_log_probs(cache, 0, kinds, prompt, positions, torch.full((3,), num_prompt - 1))]
    for position in range(num_prompt, len(tokens)):
        step = torch.full((3, 1), tokens[position]), torch.full((3, 1), position), torch.zeros(3, dtype=torch.long)
        steps.append(network.next_log_probs(cache, 0, kinds, *step))
    batched = torch.stack(steps, dim=1)
    for row, adapter in enumerate([None, *adapters]):
        expected = direct_log_probs(checkpoint, adapter, tokens)[num_prompt - 1 :]
        torch.testing.assert_close(batched[row], expected, atol=1e-4, rtol=0)
