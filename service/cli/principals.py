"""`cage principals …`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from service.cli.connection import AsJson, console, messages, show_json

app = typer.Typer(no_args_is_help=True, help="Objectives that bid for tokens.")


@app.command("list")
def list_principals(as_json: AsJson = False) -> None:
    """Show the principals that a server with these settings would load."""
    from cage_core.principals.catalogue import find_principals
    from service.settings import ModelSettings

    found = find_principals(*ModelSettings().principal_directories)
    if as_json:
        fields = ("name", "kind", "description", "feature_scale")
        show_json([{field: getattr(principal, field) for field in fields} for principal in found])
        return
    table = Table("name", "kind", "description", "feature scale, nats")
    for principal in found:
        table.add_row(principal.name, principal.kind, principal.description, f"{principal.feature_scale:.4f}")
    console.print(table)


@app.command("train")
def train(
    pairs: Annotated[Path, typer.Option(help='JSONL lines {"prompt", "chosen", "rejected", "margin" (optional)}.')],
    name: Annotated[str, typer.Option(help="What the principal is called; lower case.")],
    description: Annotated[str, typer.Option(help="One sentence about what it prefers.")] = "",
    model: Annotated[str | None, typer.Option(help="Checkpoint directory; CAGE_MODEL unless given.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of principals; CAGE_PRINCIPALS unless given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a principal (a LoRA adapter) from preference pairs; the next server start loads it."""
    from cage_core.principals.pairs import read_pairs
    from service.settings import ModelSettings

    given = read_pairs(pairs)
    # Torch and PEFT take seconds to import: not before the pairs are known to be right.
    from cage_core.principals.training import TrainingSettings, train_principal

    settings = ModelSettings(model=model) if model else ModelSettings()
    directory = (out or settings.principals) / name
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("step {task.completed} of {task.total}"))
    with Progress(*columns, TimeRemainingColumn(), console=messages) as progress:
        task = progress.add_task(name, total=None)

        def show(step: int, steps: int, loss: float) -> None:
            progress.update(task, completed=step, total=steps, description=f"{name}, loss {loss:.3f}")

        training = TrainingSettings(name=name, description=description)
        report = train_principal(settings.model_directory, given, training, directory, show)
    if as_json:
        show_json({**asdict(report), "directory": str(directory)})
        return
    console.print(
        f"trained on {report.pairs} pairs in {report.seconds:.0f} s; prefers the chosen answer in "
        f"{report.held_out_accuracy:.0%} of {report.held_out_pairs} held-out pairs"
    )
    console.print(f"saved in {directory}; the next start of the server loads it", highlight=False)
