"""Prometheus metrics of one API process; no user ids in labels."""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from learner.parameters import Parameters

_FAST_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """The process's counters and histograms, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "cage_http_requests_total", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "cage_http_request_seconds",
            "Time from a request to the end of its answer.",
            ["route"],
            buckets=_FAST_SECONDS,
            registry=self.registry,
        )
        self.first_token_seconds = Histogram(
            "cage_first_token_seconds",
            "Time from a chat request to its first text.",
            buckets=_FAST_SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter("cage_tokens_total", "Tokens read and written.", ["kind"], registry=self.registry)
        self.largest_gap = Histogram(
            "cage_equilibrium_gap",
            "Largest certified equilibrium gap of an answer, payoff units.",
            buckets=(1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2),
            registry=self.registry,
        )
        self.feedback = Counter("cage_feedback_total", "Votes received.", ["value"], registry=self.registry)
        self.feedback_to_decoder_seconds = Histogram(
            "cage_feedback_to_decoder_seconds",
            "Time from a vote to the decoder that uses what was learned from it.",
            buckets=_FAST_SECONDS,
            registry=self.registry,
        )
        self.parameter_updates = Counter(
            "cage_parameter_updates_total", "Newer parameter versions taken over.", registry=self.registry
        )
        self.running = Gauge("cage_decode_requests_running", "Requests in the batch.", registry=self.registry)
        self.waiting = Gauge("cage_decode_requests_waiting", "Requests in the queue.", registry=self.registry)

    def on_update(self, parameters: Parameters) -> None:
        """Note that a newer parameter version is now in use here."""
        self.parameter_updates.inc()
        if parameters.oldest_feedback_at is not None:
            delay = datetime.now(UTC) - parameters.oldest_feedback_at
            self.feedback_to_decoder_seconds.observe(delay.total_seconds())
