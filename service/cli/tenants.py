"""`cage tenants …` and `cage audit`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from service.cli.connection import (
    DATA_DIR,
    AsJson,
    DataDir,
    TenantOption,
    connected,
    console,
    messages,
    show_json,
)

app = typer.Typer(no_args_is_help=True, help="Customers of the service.")

TenantArgument = Annotated[str, typer.Argument(help="Its name or id.")]


@app.command("create")
def create_tenant(name: str, data_dir: DataDir = DATA_DIR, as_json: AsJson = False) -> None:
    """Make a tenant that uses all loaded principals, and its first key. Works on the database, without a server."""
    from learner.store.database import Database
    from service.running.addresses import adopt_running
    from service.settings import ServiceSettings
    from service.tenants.operators import make_tenant_with_key

    adopt_running(data_dir)
    settings = ServiceSettings.from_environment()
    with Database(settings.database_url, pool_size=1).session() as session:
        tenant, key = make_tenant_with_key(session, settings, name)
    if as_json:
        show_json({"id": tenant.id, "name": tenant.name, "key": key})
        return
    console.print(f"tenant  {tenant.id}", highlight=False)
    console.print(f"   key  {key}   (kept nowhere: store it now)", highlight=False, soft_wrap=True)


@app.command("list")
def list_tenants(data_dir: DataDir = DATA_DIR, as_json: AsJson = False) -> None:
    """All tenants."""
    with connected(data_dir, as_operator=True) as api:
        found = list(api.pages("/v1/tenants"))
    if as_json:
        show_json(found)
        return
    table = Table(Column("id", no_wrap=True), "name", "mode", "strength", "principals", "keeps text")
    for each in found:
        strength = f"{each['strength']:g}" if each["kl_budget_nats"] is None else f"KL {each['kl_budget_nats']:g}"
        principals = ", ".join(each["principals"])
        table.add_row(each["id"], each["name"], each["mode"], strength, principals, str(each["stores_text"]))
    console.print(table)


@app.command("show")
def show_tenant(tenant: TenantArgument, data_dir: DataDir = DATA_DIR, as_json: AsJson = False) -> None:
    """How a tenant is configured."""
    with connected(data_dir, as_operator=True) as api:
        _show(api.call("GET", f"/v1/tenants/{api.for_tenant(tenant)}"), as_json)


@app.command("set")
def set_tenant(
    tenant: TenantArgument,
    settings: Annotated[list[str], typer.Argument(help='NAME=VALUE, as in strength=2 or principals.warmth=1; "null".')],
    data_dir: DataDir = DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Change a tenant's configuration; decoders follow within a second."""
    change: dict[str, Any] = {}
    for each in settings:
        name, equals, value = each.partition("=")
        if not equals:
            raise typer.BadParameter(f"{each!r} is not NAME=VALUE")
        group, dot, member = name.partition(".")
        if dot:
            change.setdefault(group, {})[member] = _value(value)
        else:
            change[name] = _value(value)
    with connected(data_dir, as_operator=True) as api:
        _show(api.call("PATCH", f"/v1/tenants/{api.for_tenant(tenant)}", change), as_json)


@app.command("delete")
def delete_tenant(
    tenant: TenantArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Delete a tenant with its users, answers, votes and keys."""
    with connected(data_dir, as_operator=True) as api:
        tenant_id = api.for_tenant(tenant)
        if not yes:
            typer.confirm(f"Delete tenant {tenant!r} and everything learned for it?", abort=True, err=True)
        deleted = api.call("DELETE", f"/v1/tenants/{tenant_id}")
    if as_json:
        show_json(deleted)
    else:
        console.print(f"tenant {tenant!r} is deleted: {sum(deleted['deleted'].values())} rows", highlight=False)


def audit(
    tenant: TenantOption = "",
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many entries.")] = 50,
    data_dir: DataDir = DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Who changed what, newest first."""
    with connected(data_dir, tenant=tenant, as_operator=True) as api:
        entries = api.call("GET", "/v1/audit", query={"limit": limit})["data"]
    if as_json:
        show_json(entries)
        return
    table = Table(Column("when", no_wrap=True), "tenant", "who", "what", "on what", "details")
    for each in entries:
        details = "" if each["details"] is None else json.dumps(each["details"], ensure_ascii=False)
        table.add_row(each["at"][:19], each["tenant"] or "-", each["actor"], each["action"], each["target"], details)
    console.print(table)
    if not entries:
        messages.print("[dim]nothing is on record[/]")


def _value(text: str) -> Any:
    """What is JSON as JSON, the rest as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _show(view: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(view)
        return
    for name, value in view.items():
        shown = "  ".join(f"{k} {v:.2f}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        console.print(f"{name:>25}  {shown}", highlight=False, soft_wrap=True)
