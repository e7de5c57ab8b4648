"""The common-agency game and the decoder that plays it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cage_core.best_responses import best_response
    from cage_core.equilibrium import Equilibrium, equilibrium_gap, solve_equilibrium
    from cage_core.game import Game

__all__ = ["Equilibrium", "Game", "best_response", "equilibrium_gap", "solve_equilibrium"]

_HOMES = {
    "Equilibrium": "cage_core.equilibrium",
    "Game": "cage_core.game",
    "best_response": "cage_core.best_responses",
    "equilibrium_gap": "cage_core.equilibrium",
    "solve_equilibrium": "cage_core.equilibrium",
}


def __getattr__(name: str) -> Any:
    """Import on first use: learners use parts of this package without torch, which takes seconds to import."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cage_core' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
