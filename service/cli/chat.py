"""`cage chat`: talk to the server as one of its users, and vote with a key."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

import click
import httpx
import typer
from rich.markup import escape

from service.cli.connection import (
    DATA_DIR,
    Api,
    ApiFailed,
    AsJson,
    DataDir,
    TenantOption,
    check,
    connected,
    console,
    messages,
    segment,
    show_json,
)
from service.cli.users import bars

_LEARN_SECONDS = 5.0
_POLL_SECONDS = 0.05
_VOTES = {"u": "up", "d": "down"}


def chat(
    question: Annotated[str | None, typer.Argument(help="Ask only this; without it, talk.")] = None,
    user: Annotated[str, typer.Option(help="The end user whose preferences apply and are learned.")] = "me",
    strength: Annotated[float | None, typer.Option(min=0, help="Instead of the tenant's; 0: plain model.")] = None,
    tenant: TenantOption = "",
    data_dir: DataDir = DATA_DIR,
    as_json: AsJson = False,
) -> None:
    """Answers stream; u and d vote on the last one, and show how the weights move."""
    with connected(data_dir, tenant=tenant) as api:
        talk = Conversation(api, user, strength)
        if question is None and as_json:
            raise typer.BadParameter("--json needs a question")
        if question is None:
            _converse(talk)
        elif as_json:
            show_json(api.call("POST", "/v1/chat/completions", talk.body(question)))
        else:
            _show(talk.ask(question))


class Conversation:
    """One user's questions, each on its own: what was said before is not sent again."""

    def __init__(self, api: Api, user: str, strength: float | None) -> None:
        self._api = api
        self._user = user
        self._strength = strength
        self._model: str = api.call("GET", "/v1/models")["data"][0]["id"]
        self.answer_id = ""

    def body(self, question: str) -> dict[str, Any]:
        """The request for an answer."""
        steering = {} if self._strength is None else {"cage": {"strength": self._strength}}
        asked = [{"role": "user", "content": question}]
        return {"model": self._model, "user": self._user, "messages": asked, **steering}

    def ask(self, question: str) -> Iterator[str]:
        """The answer, piece by piece.

        Raises:
            ApiFailed: the server refuses, or gives up in the middle.
        """
        body = {**self.body(question), "stream": True}
        try:
            with self._api.http.stream("POST", "/v1/chat/completions", json=body) as response:
                check(response)
                for line in response.iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        yield from self._text(json.loads(line.removeprefix("data: ")))
        except httpx.HTTPError as error:
            raise ApiFailed(f"the connection to the server was lost: {error}") from error

    def _text(self, event: dict[str, Any]) -> Iterator[str]:
        if "error" in event:
            raise ApiFailed(event["error"]["message"])
        self.answer_id = event["id"]
        for choice in event["choices"]:
            yield choice["delta"].get("content", "")

    def vote(self, value: str) -> None:
        """A thumb for the last answer."""
        self._api.call("POST", "/v1/feedback", {"inference_id": self.answer_id, "value": value})

    def state(self) -> dict[str, Any]:
        """The user's weights in use."""
        return self._api.call("GET", f"/v1/users/{segment(self._user)}/weights")


def _converse(talk: Conversation) -> None:
    messages.print("[dim]Ask away; after an answer, u or d votes on it. An empty line ends the chat.[/]")
    with suppress(EOFError, KeyboardInterrupt):
        while question := console.input("[bold cyan]you>[/] ").strip():
            _show(talk.ask(question))
            _take_vote(talk)


def _show(pieces: Iterator[str]) -> None:
    for piece in pieces:
        console.print(escape(piece), end="", highlight=False, soft_wrap=True)
        console.file.flush()
    console.print()


def _take_vote(talk: Conversation) -> None:
    messages.print("[dim]u: thumb up   d: thumb down   any other key: go on[/] ", end="")
    value = _VOTES.get(_key())
    messages.print(value or "")
    if value is None:
        return
    before = talk.state()
    talk.vote(value)
    after = _learned(talk, before)
    if after["parameter_version"] == before["parameter_version"]:
        messages.print(
            f"[yellow]not learned within {_LEARN_SECONDS:.0f} s; does a worker run? `cage learner status`[/]"
        )
    console.print(bars(after["weights"], before["weights"]))


def _learned(talk: Conversation, before: dict[str, Any]) -> dict[str, Any]:
    """The user's state once it is newer, or as it is after a while."""
    deadline = time.monotonic() + _LEARN_SECONDS
    while True:
        state = talk.state()
        newer = (state["scope"], state["parameter_version"]) != (before["scope"], before["parameter_version"])
        if newer or time.monotonic() > deadline:
            return state
        time.sleep(_POLL_SECONDS)


def _key() -> str:
    """One key press; where there is no keyboard, the first character of a line."""
    if sys.stdin.isatty():
        return click.getchar().lower()
    return sys.stdin.readline().strip().lower()[:1]
