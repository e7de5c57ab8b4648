"""The `cage` command, in processes of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import Stack


def cage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        env={**os.environ, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_a_tenant_made_on_the_command_line_can_chat(stack: Stack) -> None:
    made = cage("tenants", "create", "acme", CAGE_DATABASE_URL=stack.services.settings.database_url)
    assert made.returncode == 0, made.stderr
    key = made.stdout.split("key")[1].split()[0]
    models = httpx.get(f"{stack.url}/v1/models", headers={"Authorization": f"Bearer {key}"})
    assert models.is_success

    again = cage("tenants", "create", "acme", CAGE_DATABASE_URL=stack.services.settings.database_url)
    assert again.returncode == 1
    assert "'acme'" in again.stderr
    assert "Traceback" not in again.stderr


def test_the_bundled_principals_are_listed(tmp_path: Path) -> None:
    listed = cage("principals", "list", CAGE_PRINCIPALS=str(tmp_path))
    assert listed.returncode == 0, listed.stderr
    for name in ("brevity", "caution", "detail", "warmth"):
        assert name in listed.stdout


def test_a_principal_trained_on_ones_own_pairs_is_listed(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    line = {"prompt": "How can I sleep better?", "chosen": "Go to bed early.", "rejected": "Have a coffee! " * 3}
    pairs.write_text("".join(json.dumps({**line, "prompt": f"{line['prompt']} {i}"}) + "\n" for i in range(16)))
    trained = cage("principals", "train", "--pairs", str(pairs), "--name", "calm", "--out", str(tmp_path / "out"))
    assert trained.returncode == 0, trained.stderr
    assert "saved in" in trained.stdout
    assert "calm" in cage("principals", "list", CAGE_PRINCIPALS=str(tmp_path / "out")).stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("principals", "train", "--pairs", "nowhere.jsonl", "--name", "calm"), {}, "nowhere.jsonl"),
        (("migrate",), {"CAGE_DATABASE_URL": "mysql://x/y"}, "CAGE_DATABASE_URL: "),
        (("migrate",), {"CAGE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, "the database does not answer"),
    ],
)
def test_errors_are_one_line(arguments: tuple[str, ...], environment: dict[str, str], said: str) -> None:
    failed = cage(*arguments, **environment)
    assert failed.returncode == 1
    assert said in failed.stderr
    assert "Traceback" not in failed.stderr
