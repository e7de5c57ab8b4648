"""Slots, batching, key-value cache, sampling: text in, token events out."""

from cage_core.engine.engine import Engine, EngineLimits
from cage_core.engine.games import MODES
from cage_core.engine.model import LanguageModel
from cage_core.engine.request import (
    Answer,
    CandidateFilter,
    DecodeRequest,
    Event,
    Failed,
    Finished,
    Sampling,
    Steering,
    TextDelta,
    TokenContext,
    TokenLogprob,
    TokenTrace,
)

__all__ = [
    "MODES",
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
    "TokenLogprob",
    "TokenTrace",
]
