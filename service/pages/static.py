"""The pages for people: dashboard, playground, audit. Static files; what they show they fetch with the reader's key."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

WEB = Path(__file__).parents[1] / "web"
PAGES = ("dashboard", "playground", "audit")

# Scripts and styles come from files of this server alone; nothing is sent anywhere else, and no page can frame these.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    # Revalidated each time, so that a new release is never mixed with an old one.
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


class _Guarded:
    """Static files under the pages' headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        await self._app(scope, receive, send_guarded)


def _page(name: str) -> None:
    @router.get(f"/{name}", name=name)
    def read_page() -> FileResponse:
        return FileResponse(WEB / f"{name}.html", headers=HEADERS)


for _name in PAGES:
    _page(_name)
router.mount("/web", _Guarded(StaticFiles(directory=WEB)), name="web")
