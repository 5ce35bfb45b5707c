"""Probes over HTTP/1.1, one request per connection: the responses to ``GET /live`` and ``GET /ready``, and what a
response to ``/ready`` says. Pure.

The body of ``/ready`` has two lines: the state in words, and the process. The second tells the process from another one
that has taken its port.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meshtls.observe.process_name import ProcessName
from meshtls.observe.readiness import Readiness
from meshtls.printable import printable

__all__ = ["END_OF_REQUEST", "LONGEST_REQUEST", "ReadyAnswer", "answer_probe", "read_ready"]

LONGEST_REQUEST = 8192
_LONGEST_ANSWER = 65536
END_OF_REQUEST = b"\r\n\r\n"
_HEAD = "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"
_READY, _WARNS, _WAITS, _NOT_READY = "ready", "ready; ", "waiting for ", "not ready: "


def answer_probe(request: bytes, readiness: Callable[[], Readiness], process: ProcessName) -> bytes:
    """The whole response of ``process`` to a request's head."""
    method, _, rest = request.partition(b" ")
    status, text = _judge(method, rest.partition(b" ")[0].partition(b"?")[0], readiness, process)
    content = text.encode()
    return _HEAD.format(status, len(content)).encode() + (b"" if method == b"HEAD" else content)


def _judge(method: bytes, path: bytes, readiness: Callable[[], Readiness], process: ProcessName) -> tuple[str, str]:
    if method not in (b"GET", b"HEAD"):
        return "405 Method Not Allowed", "wanted GET\n"
    if path == b"/live":
        return "200 OK", "live\n"
    if path != b"/ready":
        return "404 Not Found", "wanted /live or /ready\n"
    state = readiness()
    if not state.ready:
        text = f"{_WAITS if state.waits else _NOT_READY}{printable(state.text)}"
        return "503 Service Unavailable", f"{text}\n{process}\n"
    return "200 OK", f"{_WARNS}{printable(state.text)}\n{process}\n" if state.text else f"{_READY}\n{process}\n"


@dataclass(frozen=True, slots=True)
class ReadyAnswer:
    """``state``: one that is not ready has the whole line as its text. ``process``: None where an older version
    answered, which does not say it.
    """

    state: Readiness
    process: ProcessName | None


def read_ready(status: int, body: bytes) -> ReadyAnswer | None:
    """What a response to ``GET /ready`` says; None if it is not one of meshtls."""
    if len(body) > _LONGEST_ANSWER:
        return None
    first, _, second = body.decode("utf-8", "replace").removesuffix("\n").partition("\n")
    process = ProcessName.of_line(second)
    if second and process is None:
        return None
    if status == 200 and (first == _READY or first.startswith(_WARNS)):
        return ReadyAnswer(Readiness(True, printable(first.removeprefix(_READY).removeprefix("; "))), process)
    if status == 503 and first.startswith((_WAITS, _NOT_READY)):
        return ReadyAnswer(Readiness(False, printable(first)), process)
    return None
