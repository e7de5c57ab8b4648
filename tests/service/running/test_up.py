"""`cage up` as a newcomer runs it, in processes of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from service.running.addresses import find_running
from tests.waiting import wait_until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Up:
    """A running `cage up`."""

    def __init__(self, data_dir: Path, port: int, *, starts: bool = True) -> None:
        self.data_dir = data_dir
        addresses = ("CAGE_DATABASE_URL", "CAGE_REDIS_URL")
        environment = {name: value for name, value in os.environ.items() if name not in addresses}
        self.environment = {**environment, "CAGE_PORT": str(port), "COLUMNS": "200"}
        self.log = data_dir.with_name(f"up-{port}.log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self.command("up"), env=self.environment, stdout=log, stderr=log)
        wait_until(lambda: self.process.poll() is not None or "Ctrl-C" in self.log.read_text(), seconds=60)
        assert (self.process.poll() is None) == starts, self.log.read_text()

    def command(self, name: str, *options: str) -> list[str]:
        return [sys.executable, "-m", "service", name, "--data-dir", str(self.data_dir), *options]

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(with_signal)
        return self.process.wait(40)


Start = Callable[[], Up]


@pytest.fixture
def start(data_dir: Path) -> Iterator[Start]:
    """Starts the system in one data directory, again and again."""
    started: list[Up] = []

    def start_one() -> Up:
        started.append(Up(data_dir, free_port()))
        return started[-1]

    yield start_one
    for up in started:
        if up.process.poll() is None:
            up.stop()


def test_up_demo_stop_up_again_and_an_orderly_end(start: Start) -> None:
    running = start()
    url = find_running(running.data_dir).api_url
    key = (running.data_dir / "demo-key").read_text().strip()
    assert key in running.log.read_text()
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(f"{url}/v1/models", headers=headers).is_success

    demo = subprocess.run(
        running.command("demo", "--thumbs", "3"), env=running.environment, capture_output=True, text=True, timeout=100
    )
    summary = json.loads(demo.stdout[demo.stdout.index("{") :])
    assert summary["thumbs"] == 3, demo.stderr
    assert demo.returncode == (0 if summary["learned"] else 1)

    question = {"model": "cage-pocket", "user": "ada", "messages": [{"role": "user", "content": "hi"}]}
    answer = httpx.post(f"{url}/v1/chat/completions", headers=headers, json=question, timeout=30).json()
    httpx.post(f"{url}/v1/feedback", headers=headers, json={"inference_id": answer["id"], "value": "up"})
    learned = {}

    def is_learned() -> bool:
        learned.update(httpx.get(f"{url}/v1/users/ada/weights", headers=headers).json())
        return learned["feedback_count"] == 1

    wait_until(is_learned)
    assert running.stop(signal.SIGINT) == 0
    assert find_running(running.data_dir) is None

    again = start()
    url = find_running(running.data_dir).api_url
    assert httpx.get(f"{url}/v1/users/ada/weights", headers=headers).json()["weights"] == learned["weights"]
    sigterm_says_so_and_lets_open_answers_end(again, url, headers)


def sigterm_says_so_and_lets_open_answers_end(running: Up, url: str, headers: dict[str, str]) -> None:
    # At temperature 2 the little model rambles on to the limit, long enough to be interrupted.
    body = {"model": "cage-pocket", "messages": [{"role": "user", "content": "hi"}], "temperature": 2}
    long = {**body, "max_tokens": 700, "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", headers=headers, json=long, timeout=30) as response:
        lines = response.iter_lines()
        next(lines)
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{url}/ready").status_code == 503, seconds=1.5)
        assert httpx.get(f"{url}/ready").json()["draining"]
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert running.process.wait(30) == 0


def test_the_worker_of_a_killed_start_is_ended_by_the_next_and_a_closed_terminal_leaves_nothing(start: Start) -> None:
    running = start()
    orphan = psutil.Process(int((running.data_dir / "worker.pid").read_text()))
    running.process.kill()
    running.process.wait()
    assert orphan.is_running()
    again = start()
    wait_until(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)
    worker = psutil.Process(int((again.data_dir / "worker.pid").read_text()))
    assert again.stop(signal.SIGHUP) == 0
    assert not worker.is_running()
    assert find_running(again.data_dir) is None


def test_a_taken_port_is_named(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        up = Up(data_dir, port, starts=False)
        assert up.process.wait(40) == 1
        assert f"cannot listen on 127.0.0.1:{port}" in up.log.read_text()
        assert "Traceback" not in up.log.read_text()


def test_a_model_without_its_weights_is_named(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (model / name).write_text("{}")
    monkeypatch.setenv("CAGE_MODEL", str(model))
    up = Up(data_dir, free_port(), starts=False)
    assert up.process.wait(40) == 1
    assert f"model directory {model} lacks model.safetensors" in up.log.read_text()
    assert "Traceback" not in up.log.read_text()
