"""`cage learner …`, `cage replay` and `cage simulate`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from learner.scope import Scope
from learner.settings import LearnerSettings
from learner.store.database import Database
from service.cli.connection import DATA_DIR, AsJson, DataDir, console, messages, show_json

app = typer.Typer(no_args_is_help=True, help="The online learner.")


@app.command()
def status(data_dir: DataDir = DATA_DIR, as_json: AsJson = False) -> None:
    """What waits to be learned, how long it has waited, and which scopes fail."""
    from learner.status import learner_status

    with _connected(data_dir) as (database, _), database.session() as session:
        found = learner_status(session, datetime.now(UTC))
    if as_json:
        show_json(asdict(found))
        return
    console.print(f"unlearned votes   {found.unlearned_votes}, the oldest for {found.oldest_unlearned_seconds:.1f} s")
    console.print(f"lag               {found.lag_seconds:.1f} s, scopes that fail left out")
    console.print(f"scopes            {found.scopes}, with {found.versions} parameter versions")
    console.print(f"users not yet in their tenant's weights   {found.untaken_users}")
    console.print(f"failing scopes    {found.failing_count}")
    if found.failing:
        table = Table("tenant", "user", "attempts", "last error", "next attempt")
        for each in found.failing:
            next_attempt = each.next_attempt_at.isoformat(timespec="seconds")
            table.add_row(
                each.scope.tenant_id, each.scope.user_id or "(tenant)", str(each.attempts), each.error, next_attempt
            )
        console.print(table)


@app.command()
def work(
    queues: Annotated[str, typer.Option(help="Comma-separated queues to take from; all of them unless given.")] = "",
    concurrency: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    sweep: Annotated[bool, typer.Option(help="Also send for the sweep; exactly one worker should.")] = True,
) -> None:
    """Run a worker against CAGE_DATABASE_URL and CAGE_REDIS_URL, on any number of machines."""
    from learner.celery_app import all_queues, worker_command

    known = all_queues(LearnerSettings.from_environment().learning_queues)
    chosen = [name.strip() for name in queues.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise typer.BadParameter(f"there is no queue {unknown[0]!r}; the queues are {', '.join(known)}")
    command = worker_command(concurrency, with_sweep=sweep, queues=chosen)
    os.execv(command[0], command)


@app.command()
def explore(
    tenant: Annotated[str, typer.Argument(help="The tenant's name.")],
    how: Annotated[str, typer.Argument(help="'none', or 'thompson': play draws from the posterior.")],
    data_dir: DataDir = DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Choose how a tenant's weights explore, from its next request on."""
    from learner.store.tenants import find_tenant, set_exploration

    with _connected(data_dir) as (database, _), database.session() as session:
        found = find_tenant(session, tenant)
        if found is None:
            raise typer.BadParameter(f"no tenant is called {tenant!r}")
        set_exploration(session, found.id, how)
    if as_json:
        show_json({"tenant": tenant, "exploration": how})
    else:
        console.print(f"tenant {tenant!r}: exploration {how}", highlight=False)


def replay(data_dir: DataDir = DATA_DIR, as_json: AsJson = False) -> None:
    """Rebuild everything learned from the feedback table and compare; exit 1 and name scopes that differ."""
    from learner import replay as replaying

    columns = (TextColumn("scopes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=messages, disable=as_json)
    with _connected(data_dir) as (database, settings), progress as bar:
        task = bar.add_task("replay", total=None)
        report = replaying.replay(database, settings, lambda done, total: bar.update(task, completed=done, total=total))
    if as_json:
        show_json(asdict(report))
    else:
        for finding in report.differences:
            console.print(f"[red]differs[/] {_name(finding.scope)}: {finding.what}", highlight=False, soft_wrap=True)
        for finding in report.skipped:
            console.print(f"[dim]skipped[/] {_name(finding.scope)}: {finding.what}", highlight=False, soft_wrap=True)
        verdict = "identical" if not report.differences else f"{len(report.differences)} differences"
        console.print(f"{report.compared} scopes rebuilt from {report.votes} learned votes: {verdict}")
    raise typer.Exit(1 if report.differences else 0)


def simulate(
    users: Annotated[int, typer.Option(min=1, help="Simulated users, all at once.")] = 4,
    thumbs: Annotated[int, typer.Option(min=1, help="Thumbs that each of them gives.")] = 30,
    taste: Annotated[str, typer.Option(help="What they secretly like; a principal, or two joined by '+'.")] = "caution",
    then: Annotated[str, typer.Option(help="What they like from the middle on; the same unless given.")] = "",
    explore: Annotated[bool, typer.Option(help="Play draws from the posterior (Thompson sampling).")] = False,
    seed: Annotated[int, typer.Option(help="Fixes questions, thumbs and sampling.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Let simulated users with a hidden taste teach the real learner in memory, before a real engine; no servers."""
    from learner.simulated_run import SimulationPlan, run
    from service.settings import ServiceSettings

    tastes = [_taste(taste), _taste(then or taste)]
    # The simulation keeps everything in memory; the addresses are never used.
    settings = ServiceSettings(
        database_url=os.environ.get("CAGE_DATABASE_URL", "postgresql://none/none"),
        redis_url=os.environ.get("CAGE_REDIS_URL", "redis://none"),
    )
    plan = SimulationPlan(users, thumbs, tastes[0], tastes[1], explore, seed)
    columns = (TextColumn("thumbs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages, disable=as_json) as bar:
        task = bar.add_task("thumbs", total=users * thumbs)
        report = run(
            plan,
            settings.model_directory,
            settings.constants,
            strength=settings.default_strength,
            mode=settings.default_mode,
            window=settings.window_feedbacks,
            tick=lambda: bar.advance(task),
        )
    if as_json:
        show_json(asdict(report))
        return
    table = Table("thumbs", "true utility, mean of the last ten", *report.principals, title="means over the users")
    for row in report.rows:
        table.add_row(str(row.thumbs), f"{row.utility:.3f}", *(f"{weight:.2f}" for weight in row.weights))
    console.print(table)
    console.print(f"regret after {thumbs} thumbs: {report.regret:.2f} nats, bound {report.bound:.2f}")


def _taste(given: str) -> dict[str, float]:
    from cage_core.pocket.scorers import SCORERS

    liked = [name.strip() for name in given.split("+")]
    unknown = [name for name in liked if name not in SCORERS]
    if unknown:
        raise typer.BadParameter(f"nothing is called {unknown[0]!r}; users may like {', '.join(SCORERS)}")
    return {name: liked.count(name) / len(liked) for name in SCORERS}


def _name(scope: Scope) -> str:
    return f"tenant {scope.tenant_id}" + ("" if scope.user_id is None else f", user {scope.user_id!r}")


@contextlib.contextmanager
def _connected(data_dir: Path) -> Iterator[tuple[Database, LearnerSettings]]:
    """The running system's database, unless the environment names another."""
    from service.running.addresses import adopt_running

    adopt_running(data_dir)
    settings = LearnerSettings.from_environment()
    database = Database(settings.database_url, pool_size=1)
    try:
        yield database, settings
    finally:
        database.dispose()
