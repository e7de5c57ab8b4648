"""The `cage` command."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from cage_core.errors import CageError
from learner.errors import LearnerError
from service import cli_learner
from service.demo import DemoFailed
from service.embedded import PortTaken
from service.servers import EmbeddedServersUnavailable
from service.settings import ModelSettings, ServiceSettings

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
principals_app = typer.Typer(no_args_is_help=True, help="Objectives that bid for tokens.")
tenants_app = typer.Typer(no_args_is_help=True, help="Customers of the service.")
app.add_typer(principals_app, name="principals")
app.add_typer(tenants_app, name="tenants")
app.add_typer(cli_learner.app, name="learner")
app.command()(cli_learner.replay)
app.command()(cli_learner.simulate)
console = Console()

DATA_DIR = Path(".cage")
DataDir = Annotated[Path, typer.Option(help="Where the embedded servers keep their data.")]


@app.command()
def up(data_dir: DataDir = DATA_DIR) -> None:
    """Start everything on this machine: PostgreSQL, Redis, worker, API, a demo tenant. Ctrl-C stops it."""
    from service import embedded

    def ready(url: str, key: str) -> None:
        lines = {
            "API": f"{url}/v1",
            "docs": f"{url}/docs",
            "model": ServiceSettings.from_environment().model_name,
            "key": f"{key}   (the demo tenant's; also in {data_dir / 'demo-key'})",
            "operator": f"key in {data_dir / 'operator-key'}",
            "stop": "Ctrl-C; data stays in " + str(data_dir),
        }
        for name, text in lines.items():
            console.print(f"[bold]{name:>8}[/]  {text}", highlight=False, soft_wrap=True)

    embedded.up(data_dir, lambda part: console.print(f"[dim]· {part}[/]"), ready)


@app.command()
def demo(
    data_dir: DataDir = DATA_DIR,
    thumbs: Annotated[int, typer.Option(min=1, help="How many answers are voted on.")] = 40,
    taste: Annotated[str, typer.Option(help="The principal that the simulated user secretly prefers.")] = "caution",
    seed: Annotated[int, typer.Option(help="Fixes the user's questions and its luck.")] = 0,
) -> None:
    """Play a simulated user with a hidden taste through the HTTP API; start what is not running."""
    from service.demo_command import run_demo

    raise typer.Exit(run_demo(console, data_dir, thumbs, taste, seed))


@app.command()
def serve() -> None:
    """Run the API alone, against CAGE_DATABASE_URL and CAGE_REDIS_URL."""
    from service import server

    server.serve(ServiceSettings.from_environment())


@app.command()
def migrate() -> None:
    """Bring the database of CAGE_DATABASE_URL to this version's schema."""
    from learner.settings import LearnerSettings
    from learner.store.migrate import upgrade

    upgrade(LearnerSettings.from_environment().database_url)
    console.print("the database is up to date")


@tenants_app.command("create")
def create_tenant(name: str, data_dir: DataDir = DATA_DIR) -> None:
    """Make a tenant that uses all loaded principals, and print its first API key, once."""
    from learner.store.database import Database
    from service.operators import make_tenant_with_key
    from service.running import adopt_running

    adopt_running(data_dir)
    settings = ServiceSettings.from_environment()
    with Database(settings.database_url, pool_size=1).session() as session:
        tenant, key = make_tenant_with_key(session, settings, name)
    console.print(f"tenant  {tenant.id}", highlight=False)
    console.print(f"   key  {key}   (kept nowhere: store it now)", highlight=False, soft_wrap=True)


@principals_app.command("list")
def list_principals() -> None:
    """Show the principals that a server with these settings would load."""
    from cage_core.principals.catalogue import find_principals

    table = Table("name", "kind", "description", "feature scale, nats")
    for principal in find_principals(*ModelSettings().principal_directories):
        table.add_row(principal.name, principal.kind, principal.description, f"{principal.feature_scale:.4f}")
    console.print(table)


@principals_app.command("train")
def train(
    pairs: Annotated[Path, typer.Option(help='JSONL lines {"prompt", "chosen", "rejected", "margin" (optional)}.')],
    name: Annotated[str, typer.Option(help="What the principal is called; lower case.")],
    description: Annotated[str, typer.Option(help="One sentence about what it prefers.")] = "",
    model: Annotated[str | None, typer.Option(help="Checkpoint directory; CAGE_MODEL unless given.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of principals; CAGE_PRINCIPALS unless given.")] = None,
) -> None:
    """Train a principal (a LoRA adapter) from preference pairs; the next server start loads it."""
    from cage_core.principals.training import TrainingSettings, read_pairs, train_principal

    settings = ModelSettings(model=model) if model else ModelSettings()
    directory = (out or settings.principals) / name
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("step {task.completed} of {task.total}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(name, total=None)

        def show(step: int, steps: int, loss: float) -> None:
            progress.update(task, completed=step, total=steps, description=f"{name}, loss {loss:.3f}")

        training = TrainingSettings(name=name, description=description)
        report = train_principal(settings.model_directory, read_pairs(pairs), training, directory, show)
    console.print(
        f"trained on {report.pairs} pairs in {report.seconds:.0f} s; prefers the chosen answer in "
        f"{report.held_out_accuracy:.0%} of {report.held_out_pairs} held-out pairs"
    )
    console.print(f"saved in {directory}; the next start of the server loads it", highlight=False)


def main() -> None:
    """Run the command; an error that was raised on purpose becomes one line."""
    handler = RichHandler(console=Console(stderr=True), show_path=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    try:
        app()
    except (CageError, LearnerError, EmbeddedServersUnavailable, PortTaken, DemoFailed) as error:
        sys.exit(f"cage: {error}")
    except ValidationError as error:
        problems = "; ".join(f"CAGE_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        sys.exit(f"cage: settings: {problems}")
    except SQLAlchemyError as error:
        sys.exit(f"cage: the database does not answer as it should: {str(error).splitlines()[0]}")
