"""`cage evaluate` on a model, principals and prompts of one's own."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cage_core.errors import InvalidModel
from cage_core.evaluation.prompts import InvalidPrompts, read_prompts
from service.cli.main import app
from tests.checkpoints import make_adapter, make_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_checkpoint(tmp_path_factory.mktemp("models") / "own")
    make_adapter(path, path / "principals" / "calm", seed=0, rank=4)
    return path


@pytest.fixture
def others(checkpoint: Path, tmp_path: Path) -> Path:
    make_adapter(checkpoint, tmp_path / "others" / "brisk", seed=1, rank=2)
    return tmp_path / "others"


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("How do I rest?\n\nHow do I cook rice?\nWhat now?\n")
    return path


def evaluate(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_methods_side_by_side_at_one_kl(checkpoint: Path, others: Path, prompts: Path) -> None:
    asked = ("--model", checkpoint, "--principals", others, "--prompts", prompts, "--max-tokens", 12, "--kl-nats", 0.1)
    result = evaluate(*asked, "--method", "linear", "--method", "budgeted", "--json")
    assert result.exit_code == 0, result.output
    plain, *methods = json.loads(result.stdout)
    assert (plain["method"], plain["strength"], plain["kl_nats"]) == ("base", None, pytest.approx(0, abs=1e-9))
    assert [each["method"] for each in methods] == ["linear", "budgeted"]
    for each in methods:
        assert set(each["served"]) == {"brisk", "calm"}
        assert each["matched"] == (abs(each["kl_nats"] / 0.1 - 1) <= 0.05)
        assert each["worst"]["low"] <= each["worst"]["value"] <= each["worst"]["high"]
        assert each["worst"]["value"] <= each["mean"]["value"] + 1e-12
    again = evaluate(*asked, "--method", "linear", "--method", "budgeted", "--json")
    assert again.stdout == result.stdout
    table = evaluate(*asked, "--method", "linear")
    assert "worst objective" in table.stdout
    assert "brisk" in table.stdout


def test_what_cannot_be_evaluated_is_said(checkpoint: Path, prompts: Path, tmp_path: Path) -> None:
    unknown = evaluate("--model", checkpoint, "--prompts", prompts, "--method", "magic")
    assert unknown.exit_code == 2
    assert "unknown method 'magic'" in " ".join(unknown.output.split())
    missing = evaluate("--model", checkpoint, "--prompts", tmp_path / "none.txt")
    assert isinstance(missing.exception, InvalidPrompts)
    bare = make_checkpoint(tmp_path / "bare")
    assert isinstance(evaluate("--model", bare, "--prompts", prompts).exception, InvalidModel)


def test_prompts_files(tmp_path: Path) -> None:
    lines = tmp_path / "prompts.jsonl"
    lines.write_text('{"prompt": "How?", "id": 3}\n\n{"prompt": "Why?"}\n')
    assert read_prompts(lines) == ["How?", "Why?"]
    for text, problem in {"\n": "holds no prompts", '{"p": 1}\n': "line 1", '{"prompt": ""}\n': "not empty"}.items():
        lines.write_text(text)
        with pytest.raises(InvalidPrompts, match=problem):
            read_prompts(lines)
    lines.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidPrompts, match="not UTF-8"):
        read_prompts(lines)
