"""The dashboard's routes: its files, a view as JSON for each page, the stream of changes, and the few acts."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from importlib.resources import files
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from meshtls.address import Address
from meshtls.dashboard.collect import Collector
from meshtls.dashboard.guard import Guard
from meshtls.dashboard.model import View
from meshtls.dashboard.views.connections import story
from meshtls.dashboard.views.table import SHOWS, Show
from meshtls.errors import ConfigError, MeshtlsError, NotFoundError, RequestError

__all__ = ["MOST_STREAMS", "dashboard_app"]

_VIEWS: dict[str, Show] = {**{view.value: show for view, show in SHOWS.items()}, "story": story}
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
MOST_STREAMS = 16
#: Seconds in which changes are put together, and after which a silent stream says that it lives.
_TOGETHER, _IDLE = 0.5, 15.0
_LONGEST_BODY, _BODY_SECONDS = 4096, 5.0


class Act(msgspec.Struct, forbid_unknown_fields=True):
    """What a browser with the token asks a process to do: ``drain``, or ``level``, which is then in ``value``."""

    process: str
    act: str
    value: str = ""


def dashboard_app(collector: Collector, bound: Address, token: str | None = None) -> Guard:
    """``bound`` is the address of the listener. Without ``token`` nothing can be changed."""
    pages = _Pages(collector, token)
    routes = [
        Route("/", pages.file, methods=["GET"]),
        Route("/static/{name}", pages.file, methods=["GET"]),
        Route("/api/about", pages.about, methods=["GET"]),
        Route("/api/changes", pages.changes, methods=["GET"]),
        Route("/api/act", pages.act, methods=["POST"]),
        Route("/api/{view}", pages.view, methods=["GET"]),
    ]
    handlers: Any = {HTTPException: _http_error}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), bound)


class _Stream(StreamingResponse):
    """Server-sent events. ``ended`` is called once, also where the client left before the first of them was made."""

    def __init__(self, events: AsyncGenerator[bytes, None], ended: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._events, self._ended = events, ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._events):
                await super().__call__(scope, receive, send)
        finally:
            self._ended()


class _Pages:
    def __init__(self, collector: Collector, token: str | None) -> None:
        self._collector = collector
        self._token = token
        self._streams = 0
        static = files("meshtls.dashboard").joinpath("static")
        self._files = {one.name: one.read_bytes() for one in static.iterdir() if one.is_file()}

    async def file(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        kind = _TYPES.get(str(name).rpartition(".")[2])
        if name not in self._files or kind is None:
            return _error(404, f"{request.url.path}: there is no such file")
        return Response(self._files[name], media_type=f"{kind}; charset=utf-8")

    async def about(self, request: Request) -> Response:
        return _json({"views": [one.value for one in View], "may_act": self._token is not None})

    async def view(self, request: Request) -> Response:
        name = request.path_params["view"]
        show = _VIEWS.get(name)
        if show is None:
            return _error(404, f"wanted one of {', '.join(_VIEWS)}")
        try:
            return _json(show(self._collector.model, dict(request.query_params)))
        except NotFoundError as error:
            return _error(404, str(error))
        except RequestError as error:
            return _error(400, str(error))

    async def changes(self, request: Request) -> Response:
        """Server-sent events: the versions of all views, at once and whenever one has changed."""
        if self._streams >= MOST_STREAMS:
            return _error(503, f"{MOST_STREAMS} pages are open already; close one of them")
        self._streams += 1
        return _Stream(self._told(), self._ended)

    def _ended(self) -> None:
        self._streams -= 1

    async def _told(self) -> AsyncGenerator[bytes, None]:
        told: dict[str, int] = {}
        while True:
            versions = {view.value: count for view, count in self._collector.model.versions.items()}
            if versions != told:
                told = versions
                yield b"data: " + msgspec.json.encode(told) + b"\n\n"
                await asyncio.sleep(_TOGETHER)
                continue
            try:
                async with asyncio.timeout(_IDLE):
                    await self._collector.changed()
            except TimeoutError:
                yield b": idle\n\n"

    async def act(self, request: Request) -> Response:
        """Only with the token, in a header field that no form of another site can send."""
        if self._token is None:
            return _error(403, "this dashboard is for reading; start it with --token-file to change something")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token.encode()):
            return _error(401, "Authorization: wanted Bearer and the token of --token-file")
        if request.headers.get("content-type") != "application/json":
            return _error(415, "wanted application/json")
        try:
            wanted = msgspec.json.decode(await _body(request), type=Act)
            path, words = _page_of(wanted)
            return _json(await self._collector.act(wanted.process, path, words))
        except msgspec.MsgspecError as error:
            return _error(400, str(error))
        except NotFoundError as error:
            return _error(404, str(error))
        except RequestError as error:
            return _error(400, str(error))
        except ConfigError as error:
            return _error(502, str(error))


def _page_of(wanted: Act) -> tuple[str, dict[str, str]]:
    match wanted.act:
        case "drain":
            return "/drain", {}
        case "level":
            return "/logging", {"level": wanted.value}
    raise RequestError("act: wanted drain or level")


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > _LONGEST_BODY:
                    raise RequestError(f"wanted a body of at most {_LONGEST_BODY} bytes")
    except TimeoutError as error:
        raise RequestError(f"wanted the whole body within {_BODY_SECONDS:g} s") from error
    return body


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _error(status: int, why: str) -> Response:
    return JSONResponse({"error": str(MeshtlsError(why))}, status)


async def _http_error(request: Request, error: HTTPException) -> Response:
    return _error(error.status_code, error.detail)
