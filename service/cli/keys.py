"""`cage keys …`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from learner.store.keys import PRODUCT_SCOPES, SCOPES
from service.cli.connection import DATA_DIR, AsJson, DataDir, TenantOption, connected, console, segment, show_json

app = typer.Typer(no_args_is_help=True, help="API keys; without --tenant, the operators' own.")

KeyArgument = Annotated[str, typer.Argument(help="The key's id, `key_…`.")]


@app.command("create")
def create_key(
    label: Annotated[str, typer.Argument(help="What the key is for.")],
    tenant: TenantOption = "",
    operator: Annotated[bool, typer.Option("--operator", help="An operator's key, made without a server.")] = False,
    scope: Annotated[list[str] | None, typer.Option(help=f"What it may do: {', '.join(SCOPES)}.")] = None,
    expires_in_days: Annotated[float | None, typer.Option(min=0.001, help="It ends by itself.")] = None,
    data_dir: DataDir = DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Make a key. An operator's is made in the database, so that there can be a first one."""
    if operator == bool(tenant):
        raise typer.BadParameter("say whose key it is: --tenant NAME, or --operator")
    if operator and expires_in_days is not None:
        raise typer.BadParameter("an operator's key made here does not end by itself; revoke it when it is done with")
    if operator:
        _show_new(_make_operator_key(label, scope or list(SCOPES), data_dir), as_json)
        return
    body: dict[str, Any] = {"label": label, "scopes": scope or list(PRODUCT_SCOPES)}
    if expires_in_days is not None:
        body["expires_in_seconds"] = max(round(expires_in_days * 86400), 1)
    with connected(data_dir, tenant=tenant) as api:
        _show_new(api.call("POST", "/v1/keys", body), as_json)


@app.command("list")
def list_keys(tenant: TenantOption = "", data_dir: DataDir = DATA_DIR, as_json: AsJson = False) -> None:
    """All keys, revoked ones too."""
    with connected(data_dir, tenant=tenant, as_operator=True) as api:
        found = api.call("GET", "/v1/keys")["data"]
    if as_json:
        show_json(found)
        return
    table = Table(Column("id", no_wrap=True), "starts with", "label", "scopes", "made", "ends")
    for each in found:
        ended = f"revoked {each['revoked_at'][:19]}" if each["revoked_at"] else (each["expires_at"] or "-")[:19]
        scopes = ", ".join(each["scopes"])
        table.add_row(each["id"], each["prefix"], each["label"], scopes, each["created_at"][:19], ended)
    console.print(table)


@app.command("rotate")
def rotate_key(
    key: KeyArgument,
    tenant: TenantOption = "",
    grace_seconds: Annotated[int, typer.Option(min=0, help="How long the old key goes on working.")] = 3600,
    data_dir: DataDir = DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Make a key with the same rights; the old one ends after the grace period."""
    with connected(data_dir, tenant=tenant, as_operator=True) as api:
        _show_new(api.call("POST", f"/v1/keys/{segment(key)}/rotate", {"grace_seconds": grace_seconds}), as_json)


@app.command("revoke")
def revoke_key(
    key: KeyArgument, tenant: TenantOption = "", data_dir: DataDir = DATA_DIR, as_json: AsJson = False
) -> None:
    """Refuse a key from now on, at every server."""
    with connected(data_dir, tenant=tenant, as_operator=True) as api:
        revoked = api.call("DELETE", f"/v1/keys/{segment(key)}")
    if as_json:
        show_json(revoked)
    else:
        console.print(f"{revoked['id']} ({revoked['label']}) is refused from now on", highlight=False)


def _make_operator_key(label: str, scopes: list[str], data_dir: Any) -> dict[str, Any]:
    from learner.settings import LearnerSettings
    from learner.store.audit import add_entry
    from learner.store.database import Database
    from learner.store.keys import create_key as make
    from service.running.addresses import adopt_running

    adopt_running(data_dir)
    with Database(LearnerSettings.from_environment().database_url, pool_size=1).session() as session:
        key, plaintext = make(session, None, label, scopes)
        add_entry(
            session,
            at=datetime.now(UTC),
            tenant_id=None,
            actor="command line",
            action="key.create",
            target=key.id,
            details={"label": label, "scopes": key.scopes},
        )
        return {"id": key.id, "label": label, "scopes": key.scopes, "key": plaintext}


def _show_new(created: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(created)
        return
    console.print(f" id  {created['id']}   ({', '.join(created['scopes'])})", highlight=False, soft_wrap=True)
    console.print(f"key  {created['key']}   (kept nowhere: store it now)", highlight=False, soft_wrap=True)
