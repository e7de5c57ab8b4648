"""`cage weights` and `cage regret`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from service.cli.connection import DATA_DIR, AsJson, DataDir, TenantOption, connected, console, segment, show_json

_BAR_CHARACTERS = 24
_SMALLEST_MOVE = 0.005


def weights(
    user: Annotated[str, typer.Argument(help="The end user.")],
    tenant: TenantOption = "",
    data_dir: DataDir = DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """What was learned of a user."""
    with connected(data_dir, tenant=tenant) as api:
        state = api.call("GET", f"/v1/users/{segment(user)}/weights")
    if as_json:
        show_json(state)
        return
    whose = "the user's own" if state["scope"] == "user" else "the tenant's, as nothing was learned of this user"
    console.print(f"{state['feedback_count']} votes, version {state['parameter_version']}: {whose}", highlight=False)
    console.print(bars(state["weights"]))
    if state["regret"]:
        measured, bound = state["regret"]["measured"], state["regret"]["bound"]
        console.print(f"regret {measured:.2f} of at most {bound:.2f} nats", highlight=False)


def regret(
    user: Annotated[str, typer.Option(help="One user; the whole tenant unless given.")] = "",
    tenant: TenantOption = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Newest measurements.")] = 20,
    data_dir: DataDir = DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """What was lost against the best fixed weights in hindsight, and what could be lost at most."""
    query: dict[str, Any] = {"limit": limit, **({"user": user} if user else {})}
    with connected(data_dir, tenant=tenant) as api:
        series = api.call("GET", "/v1/regret", query=query)
    if as_json:
        show_json(series)
        return
    table = Table("votes", "regret, nats", "at most", "per vote", "saved against the prior", Column("at", no_wrap=True))
    for each in series["data"]:
        gain = each["prior_loss"] - each["incurred_loss"]
        per_vote = each["measured"] / max(each["feedback_count"], 1)
        numbers = (f"{number:.3f}" for number in (each["measured"], each["bound"], per_vote, gain))
        table.add_row(str(each["feedback_count"]), *numbers, each["measured_at"][:19])
    console.print(table)


def bars(weights: Mapping[str, float], before: Mapping[str, float] | None = None) -> Text:
    """Weights as bars, a line each; with earlier weights, how far each moved."""
    text = Text()
    widest = max(map(len, weights), default=0)
    for name, weight in weights.items():
        filled = round(_BAR_CHARACTERS * weight)
        text.append(f"{name:>{widest}}  ")
        text.append("█" * filled, style="cyan")
        text.append("░" * (_BAR_CHARACTERS - filled), style="dim")
        text.append(f"  {weight:.2f}")
        moved = 0.0 if before is None else weight - before.get(name, 0.0)
        if abs(moved) >= _SMALLEST_MOVE:
            text.append(f"  {moved:+.2f}", style="green" if moved > 0 else "red")
        text.append("\n")
    text.rstrip()
    return text
