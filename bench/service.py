"""What the service adds to decoding, and how fast a thumb is taken and learned: `python -m bench.service`.

Real PostgreSQL with its defaults (every commit reaches the disk), Redis, one Celery worker and one API process, as
`cage up` starts them; clients in this process over HTTP.

- Service time: the client's time for a whole completion less `cage.decode_seconds`, which the decoder reports; the
  answer is the smallest there is, one token. Eight clients, each with the next request as soon as it has its answer,
  and again with five requests a second each.
- Feedback: eight clients vote on distinct answers as fast as they can, and again at 200 votes a second in all.
- Feedback to decoder: from sending a vote to the first reading of the user's weights that includes it, while four
  clients generate.

Writes `bench/results/service.json`.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.machine import machine
from service.running.addresses import find_running

RESULTS = Path(__file__).parent / "results" / "service.json"
CLIENTS = 8
REQUESTS = 60
PAUSE_SECONDS = 0.2
VOTES = 1000
THUMBS = 40
MODEL = "cage-pocket"
START_SECONDS = 300
STEADY_PER_SECOND = 200
SETTLING_SECONDS = 15


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Median, 95th and 99th percentile, milliseconds."""
    p50, p95, p99 = 1000 * np.quantile(seconds, [0.5, 0.95, 0.99])
    return {"p50_ms": float(p50), "p95_ms": float(p95), "p99_ms": float(p99), "requests": len(seconds)}


async def ask(client: httpx.AsyncClient, user: str, max_tokens: int) -> dict[str, Any]:
    """One answer."""
    body = {
        "model": MODEL,
        "user": user,
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": "How can I sleep better?"}],
    }
    answer = (await client.post("/v1/chat/completions", json=body)).raise_for_status().json()
    return dict(answer)


async def service_times(client: httpx.AsyncClient, pause_seconds: float) -> tuple[list[float], list[str], float]:
    """Seconds outside decoding of every request, the answers' ids, and answers per second."""
    outside, ids = [], []
    random = np.random.default_rng(0)

    async def use(number: int) -> None:
        for _ in range(REQUESTS):
            started = time.perf_counter()
            answer = await ask(client, f"user-{number}", 1)
            elapsed = time.perf_counter() - started
            outside.append(elapsed - answer["cage"]["decode_seconds"])
            ids.append(answer["id"])
            await asyncio.sleep(random.exponential(pause_seconds))

    begun = time.perf_counter()
    await asyncio.gather(*(use(number) for number in range(CLIENTS)))
    return outside, ids, len(ids) / (time.perf_counter() - begun)


async def feedback_times(
    client: httpx.AsyncClient, ids: list[str], voter: str, most_per_second: float = math.inf
) -> tuple[list[float], float]:
    """Seconds of every vote, and votes per second; a vote that has to wait for a client waits on the clock."""
    waiting = list(enumerate(ids))
    seconds: list[float] = []

    async def vote() -> None:
        while waiting:
            number, answer_id = waiting.pop(0)
            due = begun + number / most_per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            body = {"inference_id": answer_id, "value": "up", "user": f"{voter}-{number}"}
            started = due if math.isfinite(most_per_second) else time.perf_counter()
            (await client.post("/v1/feedback", json=body)).raise_for_status()
            seconds.append(time.perf_counter() - started)

    begun = time.perf_counter()
    await asyncio.gather(*(vote() for _ in range(CLIENTS)))
    return seconds, len(seconds) / (time.perf_counter() - begun)


async def feedback_to_decoder(client: httpx.AsyncClient) -> list[float]:
    """Seconds from a vote to weights that include it, while others generate."""
    done = asyncio.Event()

    async def generate(number: int) -> None:
        while not done.is_set():
            await ask(client, f"talker-{number}", 64)

    async def thumbs() -> list[float]:
        seconds = []
        for number in range(THUMBS):
            answer = await ask(client, "thumber", 8)
            started = time.perf_counter()
            vote = {"inference_id": answer["id"], "value": "up" if number % 3 else "down"}
            (await client.post("/v1/feedback", json=vote)).raise_for_status()
            while await counted(client, "thumber") <= number:
                await asyncio.sleep(0.005)
            seconds.append(time.perf_counter() - started)
        done.set()
        return seconds

    async with asyncio.TaskGroup() as tasks:
        timed = tasks.create_task(thumbs())
        for number in range(4):
            tasks.create_task(generate(number))
    return timed.result()


async def counted(client: httpx.AsyncClient, user: str) -> int:
    """Votes in the weights that the decoder uses for the user."""
    state = (await client.get(f"/v1/users/{user}/weights")).raise_for_status().json()
    return int(state["feedback_count"]) if state["scope"] == "user" else 0


async def learned(client: httpx.AsyncClient) -> bool:
    """Whether the last voter's vote is in the weights, and so everybody's."""
    await asyncio.sleep(1)
    metrics = (await client.get("/metrics")).text
    lag = [line.split()[-1] for line in metrics.splitlines() if line.startswith("cage_learning_lag_seconds ")]
    return [float(seconds) for seconds in lag] == [0.0]


@asynccontextmanager
async def running_system() -> AsyncIterator[httpx.AsyncClient]:
    """`cage up` in a directory of its own, and a client of its demo tenant."""
    with tempfile.TemporaryDirectory(prefix="cage-bench-") as directory:
        data_dir = Path(directory) / "data"
        environment = {**os.environ, "CAGE_PORT": os.environ.get("CAGE_PORT", "8137")}
        command = [sys.executable, "-m", "service", "up", "--data-dir", str(data_dir)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            url = await until(lambda: address(data_dir))
            key = (data_dir / "demo-key").read_text().strip()
            limits = httpx.Limits(max_connections=32)
            headers = {"Authorization": f"Bearer {key}"}
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, limits=limits) as client:
                await until(lambda: ready(client))
                yield client
        finally:
            process.terminate()
            process.wait(60)


async def address(data_dir: Path) -> str | None:
    """Where the API will listen."""
    running = find_running(data_dir)
    return None if running is None else running.api_url


async def ready(client: httpx.AsyncClient) -> bool:
    """Whether the API answers."""
    try:
        return (await client.get("/ready")).is_success
    except httpx.TransportError:
        return False


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """What the condition gives once it is true.

    Raises:
        TimeoutError: it did not come true.
    """
    async with asyncio.timeout(START_SECONDS):
        while not (found := await condition()):
            await asyncio.sleep(0.1)
    return found


async def measure() -> dict[str, Any]:
    """All figures."""
    async with running_system() as client:
        await service_times(client, 0.0)  # connections, caches
        closed, ids, rate = await service_times(client, 0.0)
        paced, more, paced_rate = await service_times(client, PAUSE_SECONDS)
        answers = (ids + more) * (1 + VOTES // len(ids + more))
        votes, votes_per_second = await feedback_times(client, answers[:VOTES], "eager")
        await until(lambda: learned(client))
        steady, steady_per_second = await feedback_times(client, answers[:VOTES], "steady", STEADY_PER_SECOND)
        await until(lambda: learned(client))  # the floods' votes, before single ones are timed
        await asyncio.sleep(SETTLING_SECONDS)  # and what the tenant learns from its users
        thumbs = await feedback_to_decoder(client)
    return {
        "machine": machine(),
        "service_time_closed_loop": {**quantiles(closed), "clients": CLIENTS, "answers_per_second": rate},
        "service_time_paced": {**quantiles(paced), "clients": CLIENTS, "answers_per_second": paced_rate},
        "feedback_closed_loop": {**quantiles(votes), "clients": CLIENTS, "votes_per_second": votes_per_second},
        "feedback_at_200": {**quantiles(steady), "clients": CLIENTS, "votes_per_second": steady_per_second},
        "feedback_to_decoder": {**quantiles(thumbs), "generating_clients": 4},
    }


def main() -> None:
    """Measure, print, keep."""
    results = asyncio.run(measure())
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
