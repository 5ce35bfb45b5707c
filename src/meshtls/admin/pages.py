"""What the admin interface answers: a table of pages, the checks before one is asked, and the form of its answer.

A request can only be answered from the process's own state. A page that changes something is asked by POST, and on the
Unix socket alone: over TCP any user of the machine may be calling, and so may a web page in a browser. Against the
latter, whose name may lead to 127.0.0.1 (DNS rebinding), Host must be the listener's own address, and a request that
says that it was made for a page (Origin, Sec-Fetch-Site) is refused.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from meshtls.address import Address, is_loopback
from meshtls.admin.words import in_words
from meshtls.errors import RequestError
from meshtls.observe.process_name import ProcessName
from meshtls.observe.readiness import Readiness
from meshtls.printable import printable_json, printable_lines
from meshtls.rpc.small_http import Answer, Request
from meshtls.scalars import shown

__all__ = [
    "JSON",
    "NO_METRICS",
    "Caller",
    "Exposition",
    "Page",
    "Pages",
    "Query",
    "Record",
    "Stream",
    "Text",
    "prometheus_page",
    "ready_page",
]

Record = Mapping[str, object]
JSON = "application/json"
#: Where a sidecar's file has no ``metrics``.
NO_METRICS = "no metrics are counted: set metrics.listen in the sidecar's file, and restart it"
_MOST_WORDS = 32


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: ``local`` came by the Unix socket, and ``name`` is its process; else its address."""

    name: str
    local: bool


@dataclass(frozen=True, slots=True)
class Query:
    """The words after ``?``, and what was sent with a POST. ``accept`` is the request's field of that name."""

    words: Mapping[str, str]
    caller: Caller
    accept: str = ""

    def number(self, name: str, default: int, most: int) -> int:
        """A number up to ``most``. Raises RequestError."""
        text = self.words.get(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most):
            raise RequestError(f"{name}: wanted a number, 0 to {most}, got {shown(text)}")
        return int(text)


@dataclass(frozen=True, slots=True)
class Text:
    """An answer that is no record."""

    content: bytes
    type: str


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer without an end: JSON, one record a line."""

    records: AsyncGenerator[Record, None]


Content = Record | Text | Stream
Ask = Callable[[Query], Content | Awaitable[Content]]
#: Makes the metrics' text for a request with this Accept: its content type, and itself.
Exposition = Callable[[str], tuple[str, bytes] | Awaitable[tuple[str, bytes]]]


@dataclass(frozen=True, slots=True)
class Page:
    """One path. ``words``: the names that may follow ``?``, beside ``format``. ``status`` is the answer's.

    ``answer`` is for GET, and ``change``, which changes something, for POST. Either may raise RequestError: 400.
    """

    path: str
    meaning: str
    answer: Ask | None = None
    change: Ask | None = None
    words: tuple[str, ...] = ()
    status: Callable[[Content], int] = field(default=lambda content: 200)

    @property
    def methods(self) -> tuple[str, ...]:
        reads = ("GET", "HEAD") if self.answer is not None else ()
        return (*reads, "POST") if self.change is not None else reads


def ready_page(readiness: Callable[[], Readiness | Awaitable[Readiness]], process: ProcessName) -> Page:
    """The page ``/ready`` of ``process``, for probes as well: 503 while it is not."""

    async def answer(query: Query) -> Record:
        asked = readiness()
        state = asked if isinstance(asked, Readiness) else await asked
        return {"ready": state.ready, "text": state.text, **process.record()}

    def status(content: Content) -> int:
        return 200 if isinstance(content, Mapping) and content["ready"] else 503

    return Page("/ready", "Whether it is ready, or why not, and which process answers.", answer, status=status)


def prometheus_page(exposition: Exposition | None = None) -> Page:
    """The page ``/stats/prometheus``; without ``exposition`` no metrics are counted."""

    async def answer(query: Query) -> Text:
        if exposition is None:
            raise RequestError(f"/stats/prometheus: {NO_METRICS}; /stats has what is known")
        asked = exposition(query.accept)
        kind, content = await asked if isinstance(asked, Awaitable) else asked
        return Text(content, kind)

    return Page("/stats/prometheus", "The metrics, for Prometheus.", answer)


class Pages:
    """The pages that a process shows. ``answer`` is for any request, whoever sent it; ``bound`` is the address on which
    it came, None for the Unix socket's.
    """

    def __init__(self, pages: Sequence[Page]) -> None:
        self._pages = {one.path: one for one in pages}
        self._pages["/help"] = Page("/help", "This list.", self._help)

    def replace(self, others: Pages) -> None:
        """Answer as these do from now on."""
        self._pages = others._pages

    async def answer(self, request: Request, caller: Caller, bound: Address | None = None) -> Answer | Stream:
        """Never raises for what a request says."""
        path, _, search = request.path.partition("?")
        if not caller.local and (refused := _not_for_a_browser(request, bound)):
            return _refusal(403, refused)
        page = self._pages.get(path.rstrip("/") or "/help")
        if page is None:
            return _refusal(404, f"wanted one of {', '.join(self._pages)}, got {shown(path)}")
        if request.method not in page.methods:
            wanted = " or ".join(page.methods)
            return _refusal(405, f"{page.path}: wanted {wanted}, got {shown(request.method)}", ", ".join(page.methods))
        ask = page.change if request.method == "POST" else page.answer
        assert ask is not None  # noqa: S101  # it is one of its methods
        if request.method == "POST" and not caller.local:
            return _refusal(403, f"{page.path} would change something: ask on the Unix socket (admin.socket)")
        try:
            words = _words(search, request.body, page)
            form = _form(words.pop("format", ""), request.fields.get("accept", ""))
            asked = ask(Query(words, caller, request.fields.get("accept", "")))
            content = await asked if isinstance(asked, Awaitable) else asked
        except RequestError as error:
            return _refusal(400, str(error))
        if isinstance(content, Stream):
            return content
        if isinstance(content, Text):
            return Answer(page.status(content), content.content, content.type)
        status = page.status(content)
        if form == "text":
            return Answer(status, printable_lines(in_words(content)).encode() + b"\n")
        return Answer(status, printable_json(json.dumps(content, indent=2)).encode() + b"\n", JSON)

    def _help(self, query: Query) -> Record:
        return {
            "pages": [
                {
                    "path": one.path,
                    "methods": ", ".join(one.methods),
                    "words": ", ".join(one.words),
                    "meaning": one.meaning,
                }
                for one in self._pages.values()
            ]
        }


def _refusal(status: int, why: str, allow: str = "") -> Answer:
    content = printable_json(json.dumps({"error": why})).encode() + b"\n"
    return Answer(status, content, JSON, fields=(("Allow", allow),) if allow else ())


def _not_for_a_browser(request: Request, bound: Address | None) -> str:
    """Why a request over TCP may be a web page's; empty if it is not."""
    host = request.fields.get("host", "")
    try:
        named = Address.parse(host)
    except RequestError:
        named = None
    known = named is not None and is_loopback(named.host) and bound is not None and named.port == bound.port
    if not known:
        return f"Host: wanted {bound}, got {shown(host)}: a name that leads here is not enough"
    for name in ("origin", "sec-fetch-site", "referer"):
        if name in request.fields and request.fields[name] not in ("none", ""):
            return f"a request of a web page is refused ({name.title()}: {shown(request.fields[name])})"
    return ""


def _words(search: str, body: bytes, page: Page) -> dict[str, str]:
    try:
        pairs = parse_qsl(search, keep_blank_values=True, max_num_fields=_MOST_WORDS, errors="strict")
        pairs += parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MOST_WORDS, errors="strict")
    except ValueError as error:
        raise RequestError(f"wanted at most {_MOST_WORDS} words such as name=value, in UTF-8") from error
    words = dict(pairs)
    if len(words) < len(pairs):
        raise RequestError("wanted each word once")
    for name in words:
        if name not in (*page.words, "format"):
            raise RequestError(f"{page.path}: wanted {' or '.join((*page.words, 'format'))}, got {shown(name)}")
    return words


def _form(asked: str, accept: str) -> str:
    if asked not in ("", "json", "text"):
        raise RequestError(f"format: wanted json or text, got {shown(asked)}")
    return asked or ("text" if accept.lower().startswith("text/") else "json")
