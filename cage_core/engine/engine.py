"""The decode loop in a thread of its own: admit, then one token for everyone, again and again."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass

from cage_core.engine.batch import Batch
from cage_core.engine.games import MODES, compile_solver
from cage_core.engine.model import LanguageModel
from cage_core.engine.request import Answer, DecodeRequest, Event, EventSink, Failed, Finished, Steering
from cage_core.engine.sequence import Sequence
from cage_core.errors import EngineFull, EngineStopped, InvalidDecodeRequest

_IDLE_SECONDS = 0.1


@dataclass(frozen=True)
class EngineLimits:
    """How much one engine takes on.

    Attributes:
        num_rows: rows of the key-value cache; a request takes one for the base and one for each principal.
        num_waiting: requests that may wait for rows before `submit` refuses.
    """

    num_rows: int = 80
    num_waiting: int = 64


class Engine:
    """Decodes many requests at once on one model."""

    def __init__(
        self,
        model: LanguageModel,
        limits: EngineLimits = EngineLimits(),
    ) -> None:
        self.model = model
        self._limits = limits
        self._batch = Batch(model, limits.num_rows)
        self._waiting: queue.Queue[Sequence] = queue.Queue(limits.num_waiting)
        self._next: Sequence | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="cage-engine", daemon=True)

    def start(self) -> None:
        """Begin to decode, with everything compiled."""
        compile_solver()
        self._thread.start()

    def stop(self) -> None:
        """Stop after the token under way; unfinished requests fail with EngineStopped."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def num_waiting(self) -> int:
        """Requests in the queue."""
        return self._waiting.qsize()

    @property
    def num_running(self) -> int:
        """Requests in the batch."""
        return len(self._batch)

    def submit(self, request: DecodeRequest, emit: EventSink) -> Sequence:
        """Queue a request; `emit` receives its events from the engine's thread and must not block.

        Returns:
            The running answer; its `cancel` gives it up.
        Raises:
            InvalidDecodeRequest: the request cannot be served as given.
            EngineFull: too many requests are waiting.
            EngineStopped: the engine is shutting down.
        """
        if self._stopping.is_set():
            raise EngineStopped("the engine is shutting down")
        self._check(request)
        scales = self.model.feature_scales(request.steering.weights)
        sequence = Sequence(request, scales, self.model.decode, emit)
        try:
            self._waiting.put_nowait(sequence)
        except queue.Full:
            raise EngineFull(f"{self._limits.num_waiting} requests are waiting already") from None
        return sequence

    def answer(self, request: DecodeRequest) -> Answer:
        """Decode one request and wait for it.

        Raises:
            CageError: what `submit` raises, or what ended the request.
        """
        events: queue.Queue[Event] = queue.Queue()
        self.submit(request, events.put)
        while True:
            event = events.get()
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                return event.answer

    def _check(self, request: DecodeRequest) -> None:
        check_steering(request.steering)
        rows, sampling = request.rows, request.sampling
        if len(rows.rules) != len(request.steering.weights):
            raise InvalidDecodeRequest("the rows were planned for other principals than the weights name")
        if len(rows.rows) > self._limits.num_rows:
            raise InvalidDecodeRequest(
                f"{len(rows.rules)} principals need {len(rows.rows)} rows; the engine has {self._limits.num_rows}"
            )
        num_prompt = max(len(row.prompt) for row in rows.rows)
        if num_prompt == 0 or sampling.max_tokens < 1:
            raise InvalidDecodeRequest("the prompt and max_tokens must be at least one token")
        if num_prompt + sampling.max_tokens > self.model.context_tokens:
            raise InvalidDecodeRequest(
                f"prompt of {num_prompt} tokens plus max_tokens {sampling.max_tokens} exceed the context of "
                f"{self.model.context_tokens} tokens"
            )

    def _loop(self) -> None:
        try:
            while not self._stopping.is_set():
                self._admit()
                self._batch.step()
        finally:
            self._stopping.set()
            self._abandon(EngineStopped("the engine stopped before the answer was complete"))

    def _abandon(self, error: EngineStopped) -> None:
        """Nobody waits for ever: fail what is running and what is queued."""
        self._batch.end_all(error)
        while (sequence := self._take(block=False)) is not None:
            sequence.fail(error)
            self._next = None

    def _admit(self) -> None:
        """Move waiting requests into the batch while rows are free; wait a moment if there is nothing to do."""
        admitted: list[Sequence] = []
        num_free_rows = self._batch.num_free_rows
        while (sequence := self._take(block=not len(self._batch) and not admitted)) is not None:
            if sequence.num_rows > num_free_rows:
                break
            self._next = None
            if sequence.running:
                admitted.append(sequence)
                num_free_rows -= sequence.num_rows
        if admitted:
            self._batch.admit(admitted)

    def _take(self, block: bool) -> Sequence | None:
        """The request at the head of the queue; it stays there until `_next` is cleared."""
        if self._next is None:
            try:
                self._next = self._waiting.get(block, _IDLE_SECONDS)
            except queue.Empty:
                return None
        return self._next


def check_steering(steering: Steering) -> None:
    """See that principals can be steered so.

    Raises:
        InvalidDecodeRequest: unknown mode, no principal, or a number that makes no sense.
    """
    if steering.mode not in MODES:
        raise InvalidDecodeRequest(f"unknown mode {steering.mode!r}; known modes: {', '.join(MODES)}")
    if not steering.weights:
        raise InvalidDecodeRequest("at least one principal is needed")
    numbers = {**steering.weights, "strength": steering.strength, "balance": steering.balance}
    for name, value in numbers.items():
        if not 0 <= value < float("inf"):
            raise InvalidDecodeRequest(f"{name} must be a finite number >= 0, not {value}")
    budget = steering.kl_budget_nats
    if budget is not None and not (0 < budget < float("inf") and steering.mode in ("equilibrium", "linear")):
        raise InvalidDecodeRequest("a KL budget is a finite number of nats > 0, for mode equilibrium or linear")
    if steering.mode == "committed" and not steering.weights.keys() <= (steering.reserves or {}).keys():
        raise InvalidDecodeRequest("mode 'committed' needs a reserve for every principal")
