"""The experiment's own parts: rivals that it builds, what it remembers, and how it decides."""

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from bench.evaluation.cells import Cell, Outcome, Questions, Store
from bench.evaluation.design import DEFAULT, FIRST_EVALUATED, FULL, evaluated
from bench.evaluation.guides import small_principal
from bench.evaluation.laboratory import prompts
from bench.evaluation.rivals import averaged_adapter, best_of
from bench.evaluation.rows import measures
from bench.evaluation.tables import verdict
from cage_core.evaluation.decoder import DecodedAnswer
from cage_core.evaluation.measures import Measured
from cage_core.pocket import SMALL_POCKET_DIR
from cage_core.principals.catalogue import ModelSource
from tests.checkpoints import make_adapter, make_checkpoint


def test_a_soup_is_the_base_plus_the_weighted_updates(tmp_path: Path) -> None:
    """Rewarded soups against PEFT's own weighted sum of the same adapters."""
    checkpoint = make_checkpoint(tmp_path / "base")
    sources = [tmp_path / name for name in ("calm", "brisk")]
    for seed, path in enumerate(sources):
        make_adapter(checkpoint, path, seed=seed, rank=2 + 2 * seed)
    soup = averaged_adapter(sources, [0.6, 0.9], tmp_path / "soup")
    tokens = torch.tensor([[40, 41, 42, 43, 44, 45]])

    def logits(path: Path) -> torch.Tensor:
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(checkpoint), path)
        with torch.inference_mode():
            return model(tokens).logits

    both = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(checkpoint), sources[0], adapter_name="calm")
    both.load_adapter(sources[1], adapter_name="brisk")
    both.add_weighted_adapter(["calm", "brisk"], [0.6, 0.9], "sum", combination_type="cat")
    both.set_adapter("sum")
    with torch.inference_mode():
        expected = both(tokens).logits
    torch.testing.assert_close(logits(soup), expected, atol=1e-4, rtol=1e-4)
    assert float((logits(soup) - logits(sources[0])).abs().max()) > 0.01


def test_a_small_models_principal_is_that_model_tuned(tmp_path: Path) -> None:
    principal = small_principal("small-caution", tmp_path)
    assert isinstance(principal.source, ModelSource)
    tokens = torch.tensor([[40, 41, 42, 43, 44, 45]])
    adapter = SMALL_POCKET_DIR / "principals" / "caution"
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(SMALL_POCKET_DIR), adapter).eval()
    merged, plain = (AutoModelForCausalLM.from_pretrained(path) for path in (principal.source.tuned, SMALL_POCKET_DIR))
    with torch.inference_mode():
        torch.testing.assert_close(merged(tokens).logits, tuned(tokens).logits, atol=1e-4, rtol=1e-4)
        assert float((merged(tokens).logits - plain(tokens).logits).abs().max()) > 0.1


def test_best_of_n_keeps_what_the_weighted_principals_prefer() -> None:
    samples = [
        DecodedAnswer(f"{i}", (1,), True, 0.0, advantages, -1.0) for i, advantages in enumerate([(3, -3), (1, 2)])
    ]
    assert best_of(samples, (1.0, 0.0)).text == "0"
    assert best_of(samples, (0.5, 0.5)).text == "1"


def measured(score: float) -> Measured:
    return Measured((score, 1 - score, 0.0, 0.0), (0.5, -0.5), 0.1, -0.2, 7, True, False, 1.0)


def test_a_run_that_was_interrupted_finds_what_it_measured(tmp_path: Path) -> None:
    cell = Cell("linear", ("detail", "brevity"), ((0.5, 0.5),), Questions(0, 2, 0), 1.25)
    outcome = Outcome(cell, (measured(0.25), measured(0.5)), 3.0)
    Store(tmp_path, "pairs").add(outcome)
    with (tmp_path / "pairs.jsonl").open("a") as file:
        file.write('\n{"key": "cut o')
    found = Store(tmp_path, "another").find(cell)
    assert found == outcome
    assert Store(tmp_path, "another").find(Cell("linear", cell.principals, cell.weights, cell.questions, 1.26)) is None


def test_development_prompts_are_not_evaluated() -> None:
    asked = prompts()
    assert len(set(asked)) == len(asked)
    for size in (DEFAULT, FULL):
        largest = max(
            size.pair_prompts, size.few_prompts, size.worst_prompts, size.alone_prompts, size.strength_prompts
        )
        assert evaluated(largest).first == FIRST_EVALUATED
        assert FIRST_EVALUATED + largest <= len(asked)


def test_figures_of_a_front() -> None:
    scores = np.array([[[0.8, 0.2], [0.6, 0.4]], [[0.2, 0.6], [0.4, 0.8]]])
    weights = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = {name: figure(np.array([0.5, 0.5])) for name, figure in measures(scores, weights).items()}
    assert found["utility"] == pytest.approx(0.7)
    assert found["worst"] == pytest.approx(0.3)
    assert found["mean"] == pytest.approx(0.5)
    assert found["hypervolume"] == pytest.approx(0.7 * 0.3 + 0.3 * 0.7 - 0.3 * 0.3)


def test_a_difference_counts_when_its_interval_excludes_nothing() -> None:
    assert verdict({"value": 0.1, "low": 0.01, "high": 0.2}) == "better"
    assert verdict({"value": -0.1, "low": -0.2, "high": -0.01}) == "worse"
    assert verdict({"value": 0.1, "low": -0.01, "high": 0.2}) == "equal"
