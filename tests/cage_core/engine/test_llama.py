"""The compiled loops against transformers' own Llama, and against themselves in other company."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, MistralConfig

from cage_core.engine.checkpoint import load_causal_model
from cage_core.engine.llama import CompiledLlama, is_served
from cage_core.engine.llama_kernels import CHUNK_TOKENS
from cage_core.engine.network import Network
from cage_core.principals.adapters import AdapterRouting, install_adapters, read_adapter
from tests.checkpoints import make_adapter, make_checkpoint_of

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "hidden_size": 36,
    "intermediate_size": 600,  # more inputs than one pass takes, and outputs of no whole panel
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "head_dim": 12,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
SHAPES = {
    "plain": LlamaConfig(**SMALL),
    "shared-keys": LlamaConfig(**{**SMALL, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 40}),
    "tied": LlamaConfig(**SMALL, tie_word_embeddings=True),
    "scaled-rotary": LlamaConfig(
        **SMALL,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    ),
}


def adapted(config: Any, path: Path) -> tuple[Any, AdapterRouting]:
    """A random model with adapters of different ranks on different modules."""
    checkpoint = make_checkpoint_of(config, path / "model")
    targets: list[Any] = ["all-linear", ["q_proj", "down_proj"], ["v_proj", "gate_proj", "o_proj"]]
    for seed, modules in enumerate(targets):
        make_adapter(checkpoint, path / f"adapter{seed}", seed=seed, rank=2 + 7 * seed, targets=modules)
    model = load_causal_model(checkpoint, CPU)
    adapters = [(f"adapter{seed}", read_adapter(path / f"adapter{seed}")) for seed in range(len(targets))]
    return model, install_adapters(model, adapters)


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_loops_equal_transformers(config: LlamaConfig, tmp_path: Path) -> None:
    model, routing = adapted(config, tmp_path)
    assert is_served(model, CPU)
    networks = Network(model, CPU, 128, routing), CompiledLlama(model, 128, routing)
    chance = torch.Generator().manual_seed(0)
    num_rows, width = 9, 40
    kinds, lengths = torch.arange(num_rows) % 4, torch.randint(1, width + 1, (num_rows,), generator=chance)
    assert lengths.sum() > CHUNK_TOKENS
    prompt = torch.randint(0, 250, (num_rows, width), generator=chance)
    caches = [network.new_cache(num_rows + 1) for network in networks]
    start = torch.arange(width).expand(num_rows, -1)
    both = list(zip(networks, caches, strict=True))
    results = [network.next_log_probs(cache, 1, kinds, prompt, start, lengths - 1) for network, cache in both]
    for step in range(30):
        torch.testing.assert_close(results[1], results[0], atol=1e-4, rtol=0)
        tokens, positions = torch.randint(0, 250, (num_rows, 1), generator=chance), (lengths + step)[:, None]
        place = tokens, positions, torch.zeros_like(kinds)
        results = [network.next_log_probs(cache, 1, kinds, *place) for network, cache in both]


def test_a_row_is_the_same_bits_in_any_company(tmp_path: Path) -> None:
    model, routing = adapted(SHAPES["shared-keys"], tmp_path)
    network = CompiledLlama(model, 128, routing)
    chance = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 250, (23, 50), generator=chance)
    kinds, lengths = torch.arange(23) % 4, torch.randint(1, 51, (23,), generator=chance)
    positions = torch.arange(50).expand(23, -1)
    together = network.next_log_probs(network.new_cache(23), 0, kinds, tokens, positions, lengths - 1)
    for row in range(23):
        length = int(lengths[row])
        cache, one = network.new_cache(1), slice(row, row + 1)
        alone = network.next_log_probs(cache, 0, kinds[one], tokens[one], positions[one], lengths[one] - 1)
        assert torch.equal(alone, together[one])
        # A token at a time, as in an answer, is the same again.
        cache, zero = network.new_cache(1), torch.zeros(1, dtype=torch.long)
        for at in range(length):
            place = tokens[one, at : at + 1], positions[one, at : at + 1], zero
            alone = network.next_log_probs(cache, 0, kinds[one], *place)
        assert torch.equal(alone, together[one])


@pytest.mark.parametrize(
    ("what", "token", "position", "adapter", "row"),
    [("token", 260, 0, 0, 0), ("position", 5, 128, 0, 0), ("adapter", 5, 0, 4, 0), ("row", 5, 0, 0, 2)],
)
def test_what_is_not_there_is_refused(
    tmp_path: Path, what: str, token: int, position: int, adapter: int, row: int
) -> None:
    model, routing = adapted(SHAPES["plain"], tmp_path)
    network = CompiledLlama(model, 128, routing)
    place = torch.tensor([[token]]), torch.tensor([[position]]), torch.tensor([0])
    with pytest.raises(IndexError, match=f"{what} .* asked for; there are"):
        network.next_log_probs(network.new_cache(2), row, torch.tensor([adapter]), *place)


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SMALL, attention_bias=True),
        LlamaConfig(**SMALL, mlp_bias=True),
        LlamaConfig(**SMALL, hidden_act="gelu"),
        LlamaConfig(**{**SMALL, "intermediate_size": 598}),
        LlamaConfig(**SMALL, rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}),
        MistralConfig(**SMALL),
    ],
    ids=["attention-bias", "mlp-bias", "gelu", "odd-width", "dynamic-rotary", "mistral"],
)
def test_other_shapes_are_left_to_transformers(config: Any, tmp_path: Path) -> None:
    model = load_causal_model(make_checkpoint_of(config, tmp_path / "model"), CPU)
    assert not is_served(model, CPU)


def test_more_threads_are_left_to_transformers(tmp_path: Path) -> None:
    model = load_causal_model(make_checkpoint_of(SHAPES["plain"], tmp_path / "model"), CPU)
    try:
        torch.set_num_threads(2)
        assert not is_served(model, CPU)
    finally:
        torch.set_num_threads(1)
    assert not is_served(model.double(), CPU)
    assert not is_served(model.float(), torch.device("cuda"))
