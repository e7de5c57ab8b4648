"""Sends for workers after votes, without making those who voted wait for the broker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from learner.scope import Scope
from learner.tasks import enqueue_learning


class Announcer:
    """One thread that talks to the broker; what it has not said when the process dies, the sweep finds."""

    def __init__(self) -> None:
        self._speaking = ThreadPoolExecutor(1, "announcer")

    def announce(self, scope: Scope) -> None:
        """Have a worker learn a scope soon; call it after the commit, so that the worker finds the votes."""
        # The trace of the request goes on in the worker.
        self._speaking.submit(copy_context().run, enqueue_learning, scope)

    def stop(self) -> None:
        """Say what is left to say."""
        self._speaking.shutdown()
