"""The decode loop in a thread of its own: admit, then one token for everyone, again and again."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from dataclasses import dataclass

from cage_core.engine.batch import Batch
from cage_core.engine.games import MODES, compile_solver
from cage_core.engine.model import LanguageModel
from cage_core.engine.prefixes import PrefixStore
from cage_core.engine.request import Answer, DecodeRequest, Event, EventSink, Failed, Finished, Steering
from cage_core.engine.sequence import Sequence
from cage_core.errors import EngineFull, EngineStopped, InvalidDecodeRequest
from cage_core.sequential import BALANCED, BUDGETED

log = logging.getLogger(__name__)

_WITH_KL_BUDGET = ("equilibrium", "linear", BALANCED, BUDGETED)


@dataclass(frozen=True)
class EngineLimits:
    """How much one engine takes on.

    Attributes:
        num_rows: rows of the key-value cache; a request takes one for the base and one for each principal.
        num_waiting: requests that may wait for rows before `submit` refuses.
        prefix_bytes: memory for finished turns of conversations, which their next turns start from; 0 for none.
    """

    num_rows: int = 80
    num_waiting: int = 64
    prefix_bytes: int = 256 * 2**20


class Engine:
    """Decodes many requests at once on one model.

    Attributes:
        prefixes: what is kept of conversations; whoever erases a user tells it to forget the user's scope.
    """

    def __init__(self, model: LanguageModel, limits: EngineLimits = EngineLimits()) -> None:
        self.model = model
        self._limits = limits
        self.prefixes = PrefixStore(limits.prefix_bytes)
        self._batch = Batch(model, limits.num_rows, self.prefixes)
        # Guards the queue and the flag: whoever finds the engine running may count on an event.
        self._changed = threading.Condition()
        self._waiting: deque[Sequence] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="cage-engine", daemon=True)

    def start(self) -> None:
        """Begin to decode, with everything compiled and all memory taken.

        Raises:
            InvalidModel: the key-value cache does not fit into memory.
        """
        compile_solver()
        self._batch.allocate()
        self._thread.start()

    def stop(self) -> None:
        """Stop after the token under way; unfinished requests fail with EngineStopped."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._abandon()

    @property
    def is_running(self) -> bool:
        """Whether requests are decoded; False for ever once the loop has ended, for whatever reason."""
        return self._thread.is_alive() and not self._stopping

    @property
    def num_waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

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
        self._check(request)
        scales = self.model.feature_scales(request.steering.weights)
        sequence = Sequence(request, scales, self.model.decode, emit)
        with self._changed:
            if self._stopping:
                raise EngineStopped("the engine is shutting down")
            if len(self._waiting) >= self._limits.num_waiting:
                self._waiting = deque(s for s in self._waiting if s.running)
            if len(self._waiting) >= self._limits.num_waiting:
                raise EngineFull(f"{self._limits.num_waiting} requests are waiting already")
            self._waiting.append(sequence)
            self._changed.notify()
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
        num_prompt = rows.num_prompt_tokens
        if num_prompt == 0 or sampling.max_tokens < 1:
            raise InvalidDecodeRequest("the prompt and max_tokens must be at least one token")
        if num_prompt + sampling.max_tokens > self.model.context_tokens:
            raise InvalidDecodeRequest(
                f"prompt of {num_prompt} tokens plus max_tokens {sampling.max_tokens} exceed the context of "
                f"{self.model.context_tokens} tokens"
            )

    def _loop(self) -> None:
        try:
            while not self._stopping:
                admitted = self._next_to_admit()
                if admitted:
                    self._batch.admit(admitted)
                self._batch.step()
        except Exception:
            log.critical("the decode loop ended; this process serves no more answers", exc_info=True)
        finally:
            self._abandon()

    def _next_to_admit(self) -> list[Sequence]:
        """Waiting requests for which rows are free; waits while there is nothing to do at all."""
        with self._changed:
            while not (self._waiting or len(self._batch) or self._stopping):
                self._changed.wait()
            admitted: list[Sequence] = []
            num_free_rows = self._batch.num_free_rows
            while self._waiting:
                sequence = self._waiting[0]
                if sequence.running and sequence.num_rows > num_free_rows:
                    break
                self._waiting.popleft()
                if sequence.running:
                    admitted.append(sequence)
                    num_free_rows -= sequence.num_rows
            return admitted

    def _abandon(self) -> None:
        """Nobody waits for ever: fail what is running and what is queued."""
        error = EngineStopped("the engine stopped before the answer was complete")
        with self._changed:
            self._stopping = True
            left, self._waiting = self._waiting, deque()
        for sequence in left:
            sequence.fail(error)
        self._batch.end_all(error)


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
    if budget is not None and not (0 < budget < float("inf") and steering.mode in _WITH_KL_BUDGET):
        modes = ", ".join(_WITH_KL_BUDGET)
        raise InvalidDecodeRequest(f"a KL budget is a finite number of nats > 0, for the modes {modes}")
    if steering.mode == "committed" and not steering.weights.keys() <= (steering.reserves or {}).keys():
        raise InvalidDecodeRequest("mode 'committed' needs a reserve for every principal")
