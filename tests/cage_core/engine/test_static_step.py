"""The step in fixed shapes, as a CUDA graph replays it, against the ordinary one."""

from pathlib import Path

import pytest
import torch
from transformers import Gemma2Config, GPT2Config, LlamaConfig, PretrainedConfig, Qwen2Config

from cage_core.engine.checkpoint import load_causal_model
from cage_core.engine.network import Network
from cage_core.engine.static_step import StaticStep, rounded_reach, rounded_rows
from cage_core.principals.adapters import install_adapters, read_adapter
from tests.cage_core.engine.test_architectures import SMALL
from tests.checkpoints import make_adapter, make_checkpoint_of

CONTEXT = 600
LONG = {**SMALL, "max_position_embeddings": CONTEXT}
FAMILIES = {
    "llama": LlamaConfig(**LONG),
    "qwen2": Qwen2Config(**LONG),
    "gemma2-softcap-sliding": Gemma2Config(**LONG, head_dim=8, sliding_window=6),
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, initializer_range=0.3),
}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here: the graphs were not run")


def network_of(config: PretrainedConfig, path: Path, device: str) -> Network:
    checkpoint = make_checkpoint_of(config, path / "model")
    make_adapter(checkpoint, path / "adapter", seed=0, targets="all-linear")
    model = load_causal_model(checkpoint, torch.device(device)).float()
    routing = install_adapters(model, [("one", read_adapter(path / "adapter"))])
    return Network(model, torch.device(device), CONTEXT, routing)


def steps_agree(network: Network, device: str) -> None:
    """Follow three rows over the edge of a reach, then two of them, in both ways."""
    chance = torch.Generator().manual_seed(0)
    static = StaticStep(network.one_token, network.context_tokens, torch.device(device))
    kinds, lengths = torch.tensor([0, 1, 0]), torch.tensor([250, 249, 12])
    prompt = torch.randint(0, 250, (3, 250), generator=chance)
    caches = [network.new_cache(6) for _ in range(2)]
    for cache in caches:
        network.next_log_probs(cache, 0, kinds, prompt, torch.arange(250).expand(3, -1), lengths - 1)
    for step in range(12):
        if step == 9:
            kinds, lengths = kinds[[2, 1]], lengths[[2, 1]]
            for cache in caches:
                cache.keep([2, 1])
        tokens = torch.randint(0, 250, (len(kinds), 1), generator=chance)
        positions = (lengths + step)[:, None]
        fixed = static.next_log_probs(caches[0], kinds, tokens, positions)
        device_of = [values.to(device) for values in (kinds, tokens, positions)]
        plain = network.one_token(caches[1], int(positions.max()) + 1, *device_of)
        torch.testing.assert_close(fixed, plain, atol=1e-4, rtol=0)


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES.keys())
def test_fixed_shapes_change_no_answer(config: PretrainedConfig, tmp_path: Path) -> None:
    network = network_of(config, tmp_path, "cpu")
    with torch.inference_mode():
        steps_agree(network, "cpu")


@needs_cuda
@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES.keys())
def test_graphs_change_no_answer(config: PretrainedConfig, tmp_path: Path) -> None:
    network = network_of(config, tmp_path, "cuda")
    with torch.inference_mode():
        steps_agree(network, "cuda")


def test_one_token_is_the_ordinary_step(tmp_path: Path) -> None:
    network = network_of(FAMILIES["llama"], tmp_path, "cpu")
    kinds, tokens, positions = torch.tensor([0, 1]), torch.tensor([[5], [6]]), torch.zeros(2, 1, dtype=torch.long)
    ordinary = network.next_log_probs(network.new_cache(2), 0, kinds, tokens, positions, torch.zeros(2).long())
    with torch.inference_mode():
        fixed = network.one_token(network.new_cache(2), 256, kinds, tokens, positions)
    torch.testing.assert_close(fixed, ordinary, atol=1e-5, rtol=0)


def test_few_sizes_cover_all() -> None:
    assert [rounded_rows(n, 80) for n in (1, 2, 3, 5, 16, 17, 33, 80)] == [1, 2, 4, 8, 16, 32, 48, 80]
    assert rounded_rows(5, 6) == 6
    assert [rounded_reach(n, 4096) for n in (1, 256, 257, 1000, 4096)] == [256, 256, 512, 1024, 4096]
    assert rounded_reach(300, 500) == 500
    for capacity in range(1, 100):
        assert all(n <= rounded_rows(n, capacity) <= capacity for n in range(1, capacity + 1))
