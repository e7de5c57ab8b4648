"""`cage evaluate`: which way of combining principals serves a user's own model and prompts best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from service.cli.connection import AsJson, console, messages, show_json

if TYPE_CHECKING:
    from cage_core.evaluation.comparison import Comparison, Standing
    from cage_core.evaluation.statistics import Estimate

DEFAULT_METHODS = ("linear", "equilibrium", "balanced", "budgeted")


def evaluate(
    prompts: Annotated[Path, typer.Option(help='One prompt a line, or JSON lines with a "prompt" (.jsonl).')],
    model: Annotated[str | None, typer.Option(help="Checkpoint directory; CAGE_MODEL unless given.")] = None,
    principals: Annotated[
        Path | None, typer.Option(help="Directory of principals; CAGE_PRINCIPALS unless given.")
    ] = None,
    kl_nats: Annotated[
        float, typer.Option(min=1e-4, max=10, help="KL to the plain model, per token, that every method spends.")
    ] = 0.05,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 160,
    method: Annotated[list[str] | None, typer.Option(help="Only this method; may be given again.")] = None,
    seed: Annotated[int, typer.Option(help="Fixes all draws.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare ways of combining principals on your own prompts, all at the same KL to the plain model.

    Every objective is judged by its own principal: how much likelier it finds an answer's tokens than the plain model
    does, in standard deviations. So judged, linear blending has the best mean by design: look at the worst objective.
    """
    from cage_core.evaluation.comparison import COMPARABLE
    from cage_core.evaluation.prompts import read_prompts

    methods = method or list(DEFAULT_METHODS)
    if unknown := [name for name in methods if name not in COMPARABLE]:
        raise typer.BadParameter(f"unknown method {unknown[0]!r}; known: {', '.join(COMPARABLE)}")
    questions = read_prompts(prompts)
    with messages.status("loading the model") as status:
        comparison = _comparison(model, principals, questions, max_tokens, seed, status.update)
        standings = [comparison.plain(), *(comparison.at_kl(name, kl_nats) for name in methods)]
    if as_json:
        show_json([asdict(standing) for standing in standings])
    else:
        console.print(_table(standings, kl_nats))


def _comparison(
    model: str | None,
    principals: Path | None,
    questions: list[str],
    max_tokens: int,
    seed: int,
    say: Callable[[str], None],
) -> Comparison:
    """The model with all its principals, equally weighted."""
    import torch

    from cage_core.engine.model import LanguageModel
    from cage_core.errors import InvalidModel
    from cage_core.evaluation.comparison import Comparison
    from cage_core.principals.catalogue import find_principals
    from service.settings import ModelSettings

    settings = ModelSettings(model=model) if model else ModelSettings()
    torch.set_num_threads(settings.torch_threads)
    folders = (settings.model_directory / "principals", principals or settings.principals.expanduser())
    found = find_principals(*folders)
    if not found:
        raise InvalidModel(f"no principals in {folders[0]} or {folders[1]}; `cage principals train` makes one")
    loaded = LanguageModel(settings.model_directory, found, longest_tokens=settings.context_tokens)
    weights = {principal.name: 1.0 / len(found) for principal in found}
    return Comparison(loaded, weights, questions, max_tokens, seed, say)


def _table(standings: list[Standing], kl_nats: float) -> Table:
    """Methods as columns: there are few of them, and any number of objectives."""
    table = Table("", *(standing.method for standing in standings))
    table.add_row("strength", *("" if s.strength is None else f"{s.strength:.2f}" for s in standings))
    table.add_row("KL, nats a token", *(_kl(standing, kl_nats) for standing in standings))
    for name in standings[0].served:
        table.add_row(name, *(f"{standing.served[name]:+.2f}" for standing in standings))
    table.add_row("mean", *(_figure(standing.mean) for standing in standings))
    table.add_row("worst objective", *(_figure(standing.worst) for standing in standings))
    table.add_row("tokens", *(f"{standing.tokens:.0f}" for standing in standings))
    table.add_row("at the cap", *(f"{standing.capped_share:.0%}" for standing in standings))
    table.add_row("repeating", *(f"{standing.repeating_share:.0%}" for standing in standings))
    return table


def _kl(standing: Standing, kl_nats: float) -> str:
    missed = standing.strength is not None and not standing.matched
    return f"{abs(standing.kl_nats):.3f}" + (f", not {kl_nats:g}" if missed else "")


def _figure(estimate: Estimate) -> str:
    return f"{estimate.value:+.2f}\n{estimate.low:+.2f} … {estimate.high:+.2f}"
