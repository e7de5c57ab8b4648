"""`cage demo` beside a `cage up` that is still starting."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

from service.running.addresses import Running, announced
from tests.service.conftest import Stack
from tests.waiting import wait_until


def test_a_demo_waits_for_a_system_that_is_starting(stack: Stack, data_dir: Path, tmp_path: Path) -> None:
    settings, said = stack.services.settings, tmp_path / "said"
    data_dir.mkdir()
    command = [sys.executable, "-m", "service", "demo", "--data-dir", str(data_dir), "--thumbs", "1", "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CAGE_")}
    with (data_dir / "lock").open("w") as lock, said.open("w") as stderr:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as `cage up` does first of all
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True) as demo:
            wait_until(lambda: "waiting for it" in said.read_text(), seconds=60)
            with announced(data_dir, Running(settings.database_url, settings.redis_url, stack.url)):
                printed, _ = demo.communicate(timeout=100)
    assert json.loads(printed)["thumbs"] == 1, said.read_text()
    assert "nothing is running" not in said.read_text()
