"""Slots, batching, key-value cache, sampling: text in, token events out."""

from cage_core.engine.engine import Engine, EngineLimits
from cage_core.engine.games import MODE_TEMPERATURES, CandidateFilter
from cage_core.engine.model import LanguageModel
from cage_core.engine.request import (
    Answer,
    DecodeRequest,
    Event,
    Failed,
    Finished,
    Sampling,
    Steering,
    TextDelta,
    TokenContext,
)

__all__ = [
    "MODE_TEMPERATURES",
    "Answer",
    "CandidateFilter",
    "DecodeRequest",
    "Engine",
    "EngineLimits",
    "Event",
    "Failed",
    "Finished",
    "LanguageModel",
    "Sampling",
    "Steering",
    "TextDelta",
    "TokenContext",
]
