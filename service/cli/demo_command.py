"""`cage demo`: find or start a system, play the simulated user, show what happened."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cage_core.pocket.scorers import SCORERS
from learner.store.database import Database
from service.cli.demo import Checkpoint, DemoFailed, Outcome, play
from service.running.addresses import Running, adopt_running, find_running
from service.running.servers import are_running
from service.settings import ServiceSettings
from service.tenants.operators import make_tenant_with_key

_START_SECONDS = 120
_COMPARISONS = 40


def run_demo(console: Console, data_dir: Path, thumbs: int, taste: str, seed: int) -> tuple[bool, Outcome]:
    """Play the demo on a tenant of its own; returns whether the taste was learned, and what happened.

    Raises:
        DemoFailed: no system could be started, or it does not learn.
    """
    if taste not in SCORERS:
        raise DemoFailed(f"nobody can be simulated who likes {taste!r}; tastes: {', '.join(SCORERS)}")
    with _system(console, data_dir) as running:
        adopt_running(data_dir)
        key = _fresh_tenant(f"demo run {time.strftime('%Y-%m-%d %H:%M:%S')}")
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=running.api_url, headers=headers, timeout=60) as client:
            outcome = _play(console, client, thumbs, taste, seed)
    return outcome.learned, outcome


def _fresh_tenant(name: str) -> str:
    settings = ServiceSettings.from_environment()
    database = Database(settings.database_url, pool_size=1)
    try:
        with database.session() as session:
            return make_tenant_with_key(session, settings, name)[1]
    finally:
        database.dispose()


@contextlib.contextmanager
def _system(console: Console, data_dir: Path) -> Iterator[Running]:
    """The running system, or one that is started for as long as the context lasts."""
    running = find_running(data_dir)
    if running is not None and _is_ready(running):
        console.print(f"[dim]using the system at {running.api_url}[/]")
        yield running
        return
    if are_running(data_dir):
        console.print("[dim]a system is starting; waiting for it[/]")
        yield _await_ready(None, data_dir)
        return
    console.print("[dim]nothing is running; starting everything (cage up)[/]")
    command = [sys.executable, "-m", "service", "up", "--data-dir", str(data_dir)]
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "demo.log").open("wb") as log:
        system = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield _await_ready(system, data_dir)
        finally:
            system.terminate()
            system.wait()


def _await_ready(own: subprocess.Popen[bytes] | None, data_dir: Path) -> Running:
    """The system once it is ready; `own` may have lost the race for the directory to another start."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and ((own is not None and own.poll() is None) or are_running(data_dir)):
        running = find_running(data_dir)
        if running is not None and _is_ready(running):
            return running
        time.sleep(0.1)
    log = "where it was started" if own is None else str(data_dir / "demo.log")
    raise DemoFailed(f"the system did not start; see {log}")


def _is_ready(running: Running) -> bool:
    try:
        return httpx.get(f"{running.api_url}/ready", timeout=5).is_success
    except httpx.HTTPError:
        return False


def _play(console: Console, client: httpx.Client, thumbs: int, taste: str, seed: int) -> Outcome:
    console.print(f"A simulated user likes [bold]{taste}[/] and tells nobody; it gives {thumbs} thumbs.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("answers", total=thumbs + _COMPARISONS)

        def report(checkpoint: Checkpoint) -> None:
            progress.console.print(_line(checkpoint), highlight=False, soft_wrap=True)

        return play(client, taste=taste, thumbs=thumbs, seed=seed, report=report, tick=lambda: progress.advance(task))


def _line(checkpoint: Checkpoint) -> str:
    weights = "  ".join(f"{name} {weight:.2f}" for name, weight in checkpoint.weights.items())
    return (
        f"{checkpoint.thumbs:3d} thumbs   {weights}   score of the last ten {checkpoint.recent_score:.2f}   "
        f"regret {checkpoint.regret:.2f} of at most {checkpoint.bound:.2f} nats   "
        f"thumb to decoder {1000 * checkpoint.median_delay_seconds:.0f} ms"
    )
