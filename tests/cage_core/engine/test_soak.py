"""Many requests of all fates: nothing is stuck, nothing is kept."""

import queue
import random
import time
from dataclasses import replace
from pathlib import Path

from cage_core.engine import Engine, EngineLimits, Event, Failed, Finished, LanguageModel, TextDelta
from cage_core.errors import DeadlineExceeded, EngineFull
from tests.cage_core.engine.test_engine import request

NUM_REQUESTS = 500
NUM_WARM_UP = 100
LARGEST_GROWTH_BYTES = 8 * 2**20


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def test_five_hundred_requests_of_all_fates(model: LanguageModel) -> None:
    engine = Engine(model, EngineLimits(num_rows=24, num_waiting=16))
    engine.start()
    chance = random.Random(0)
    waiting: list[queue.Queue[Event]] = []
    given_up: list[queue.Queue[Event]] = []
    resident = 0
    for number in range(NUM_REQUESTS):
        if number == NUM_WARM_UP:
            resident = resident_bytes()
        fate = chance.choice(["finish", "finish", "cancel", "deadline"])
        asked = request(number, max_tokens=chance.randint(1, 40), strength=chance.uniform(0, 3))
        if fate == "deadline":
            asked = replace(asked, deadline_seconds=time.monotonic() + chance.uniform(0, 0.02))
        events: queue.Queue[Event] = queue.Queue()
        while True:
            try:
                sequence = engine.submit(asked, events.put)
                break
            except EngineFull:
                time.sleep(0.001)
        if fate == "cancel":
            time.sleep(chance.uniform(0, 0.005))
            sequence.cancel()
            given_up.append(events)
        else:
            waiting.append(events)
    for events in waiting:
        while isinstance(event := events.get(timeout=30), TextDelta):
            pass
        assert isinstance(event, Finished) or isinstance(event.error, DeadlineExceeded)
    while engine.num_running or engine.num_waiting:
        time.sleep(0.01)
    assert engine.answer(request(1)).completion_tokens > 0
    engine.stop()
    assert resident_bytes() - resident < LARGEST_GROWTH_BYTES
    # Nothing follows the end of an answer, and nothing ends one that was given up.
    assert all(events.empty() for events in waiting)
    assert not any(isinstance(event, Failed) for events in given_up for event in events.queue)
