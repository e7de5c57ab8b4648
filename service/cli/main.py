"""The `cage` command."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.logging import RichHandler

from service.cli import chat, evaluate, keys, learner, principals, tenants, users
from service.cli.connection import DATA_DIR, AsJson, DataDir, console, messages, show_json

_ON_PURPOSE = {
    "cage_core.errors": "CageError",
    "learner.errors": "LearnerError",
    "service.cli.connection": "ApiFailed",
    "service.cli.demo": "DemoFailed",
    "service.running.embedded": "PortTaken",
    "service.running.servers": "EmbeddedServersUnavailable",
}
"""Errors whose message is for whoever runs a command."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(principals.app, name="principals")
app.add_typer(tenants.app, name="tenants")
app.add_typer(keys.app, name="keys")
app.add_typer(learner.app, name="learner")
for _command in (chat.chat, users.weights, users.regret, tenants.audit):
    app.command()(_command)
app.command()(learner.replay)
app.command()(learner.simulate)
app.command()(evaluate.evaluate)


@app.callback()
def common(
    url: Annotated[str | None, typer.Option(help="Where the API is; also CAGE_URL.")] = None,
    key: Annotated[str | None, typer.Option(help="API key; also CAGE_API_KEY.")] = None,
) -> None:
    """CAGE: answers that learn what each user prefers.

    Commands that talk to a server find the one that `cage up` started here, unless told of another.
    """
    for name, given in (("CAGE_URL", url), ("CAGE_API_KEY", key)):
        if given is not None:
            os.environ[name] = given


@app.command()
def up(data_dir: DataDir = DATA_DIR, as_json: AsJson = False) -> None:
    """Start everything on this machine: PostgreSQL, Redis, worker, API, a demo tenant. Ctrl-C stops it."""
    from service.running import embedded
    from service.settings import ServiceSettings

    def ready(url: str, key: str) -> None:
        if as_json:
            show_json({"url": url, "key": key, "operator_key_file": str(data_dir / "operator-key")})
            sys.stdout.flush()
            return
        lines = {
            "API": f"{url}/v1",
            "docs": f"{url}/docs",
            "model": ServiceSettings.from_environment().model_name,
            "key": f"{key}   (the demo tenant's; also in {data_dir / 'demo-key'})",
            "operator": f"key in {data_dir / 'operator-key'}",
            "pages": f"{url}/playground with the demo key, {url}/dashboard with the operator's",
            "stop": "Ctrl-C; data stays in " + str(data_dir),
        }
        for name, text in lines.items():
            console.print(f"[bold]{name:>8}[/]  {text}", highlight=False, soft_wrap=True)

    said = messages if as_json else console
    embedded.up(data_dir, lambda part: said.print(f"[dim]· {part}[/]"), ready)


@app.command()
def demo(
    data_dir: DataDir = DATA_DIR,
    thumbs: Annotated[int, typer.Option(min=1, help="How many answers are voted on.")] = 40,
    taste: Annotated[str, typer.Option(help="The principal that the simulated user secretly prefers.")] = "caution",
    seed: Annotated[int, typer.Option(help="Fixes the user's questions and its luck.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Play a simulated user with a hidden taste through the HTTP API; start what is not running."""
    from service.cli.demo_command import run_demo

    learned, outcome = run_demo(messages if as_json else console, data_dir, thumbs, taste, seed)
    summary = {"learned": learned, **asdict(outcome)}
    if as_json:
        show_json(summary)
    else:
        console.print_json(data=summary)
    raise typer.Exit(0 if learned else 1)


@app.command()
def serve() -> None:
    """Run the API alone, against CAGE_DATABASE_URL and CAGE_REDIS_URL."""
    from service.settings import ServiceSettings

    settings = ServiceSettings.from_environment()
    # Torch and transformers take seconds to import: not before the settings are known to be right.
    from service.server import serve as serve_api

    serve_api(settings)


@app.command()
def migrate(as_json: AsJson = False) -> None:
    """Bring the database of CAGE_DATABASE_URL to this version's schema."""
    from learner.settings import LearnerSettings
    from learner.store.migrate import upgrade

    upgrade(LearnerSettings.from_environment().database_url)
    if as_json:
        show_json({"up_to_date": True})
    else:
        console.print("the database is up to date")


def main() -> None:
    """Run the command; an error that was raised on purpose becomes one line."""
    handler = RichHandler(console=Console(stderr=True), show_path=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    try:
        app()
    except Exception as error:
        said = _said_on_purpose(error)
        if said is None:
            raise
        sys.exit(f"cage: {said}")


def _said_on_purpose(error: Exception) -> str | None:
    """What to tell about an error; None for a fault of this program."""
    if _is_one_of(error, _ON_PURPOSE):
        return str(error)
    if _is_one_of(error, {"pydantic": "ValidationError"}):
        problems = "; ".join(
            f"CAGE_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in cast(Any, error).errors()
        )
        return f"settings: {problems}"
    if _is_one_of(error, {"sqlalchemy.exc": "SQLAlchemyError"}):
        return f"the database does not answer as it should: {str(error).splitlines()[0]}"
    return None


def _is_one_of(error: Exception, classes: Mapping[str, str]) -> bool:
    """Whether an error is of one of the classes, by module: what nobody has imported has raised nothing."""
    return any(
        module in sys.modules and isinstance(error, getattr(sys.modules[module], name))
        for module, name in classes.items()
    )
