"""Prometheus metrics of one API process; no user ids in labels."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from cage_core.engine import Answer
from learner.parameters import Parameters

_FAST_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_SOLVER_SECONDS = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
_AGE_SECONDS = (1, 10, 60, 600, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600, 30 * 24 * 3600)


class Metrics:
    """The process's counters and histograms, in a registry of their own."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        self.build = Info("cage_build", "What is running.", registry=self.registry)
        self.build.info({"version": version("cage"), "model": model})
        self.requests = Counter(
            "cage_http_requests_total", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self.request_seconds = self._histogram(
            "cage_http_request_seconds", "Time from a request to the end of its answer.", labels=["route"]
        )
        self.first_token_seconds = self._histogram(
            "cage_first_token_seconds", "Time from a chat request to its first text."
        )
        self.decode_seconds = self._histogram(
            "cage_decode_seconds", "Time of an answer in the decoder, waiting for rows included."
        )
        self.tokens = Counter("cage_tokens_total", "Tokens read and written.", ["kind"], registry=self.registry)
        self.largest_gap = self._histogram(
            "cage_equilibrium_gap",
            "Largest certified equilibrium gap of an answer, payoff units.",
            buckets=(1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2),
        )
        self.solver_seconds = self._histogram(
            "cage_solver_seconds_per_token", "Mean time of an answer to solve one token's game.", _SOLVER_SECONDS
        )
        self.reused_tokens = Gauge(
            "cage_prefix_tokens_reused", "Prompt tokens not computed again, since the start.", registry=self.registry
        )
        self.parameter_age_seconds = self._histogram(
            "cage_parameter_age_seconds", "Age of the learned weights that an answer was made with.", _AGE_SECONDS
        )
        self.feedback = Counter("cage_feedback_total", "Votes received.", ["value"], registry=self.registry)
        self.feedback_to_decoder_seconds = self._histogram(
            "cage_feedback_to_decoder_seconds",
            "Time from a vote to the decoder that uses what was learned from it.",
        )
        self.parameter_updates = Counter(
            "cage_parameter_updates_total", "Newer parameter versions taken over.", registry=self.registry
        )
        self.running = Gauge("cage_decode_requests_running", "Requests in the batch.", registry=self.registry)
        self.waiting = Gauge("cage_decode_requests_waiting", "Requests in the queue.", registry=self.registry)

    def on_answer(self, answer: Answer, parameters: Parameters) -> None:
        """Note a complete answer and the parameters it was made with."""
        self.tokens.labels("prompt").inc(answer.prompt_tokens)
        self.tokens.labels("completion").inc(answer.completion_tokens)
        self.largest_gap.observe(answer.largest_gap)
        self.decode_seconds.observe(answer.seconds)
        self.solver_seconds.observe(answer.solver_seconds / max(answer.completion_tokens, 1))
        if parameters.version:
            self.parameter_age_seconds.observe((datetime.now(UTC) - parameters.learned_at).total_seconds())

    def on_update(self, parameters: Parameters) -> None:
        """Note that a newer parameter version is now in use here."""
        self.parameter_updates.inc()
        if parameters.oldest_feedback_at is not None:
            delay = datetime.now(UTC) - parameters.oldest_feedback_at
            self.feedback_to_decoder_seconds.observe(delay.total_seconds())

    def _histogram(
        self, name: str, meaning: str, buckets: tuple[float, ...] = _FAST_SECONDS, labels: list[str] | None = None
    ) -> Histogram:
        return Histogram(name, meaning, labels or [], buckets=buckets, registry=self.registry)
