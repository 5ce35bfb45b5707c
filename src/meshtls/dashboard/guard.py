"""What the dashboard answers to whom, and with which header fields: checked before any page is asked.

It listens on loopback and has no login: whoever can connect may read. A web page elsewhere must not, though its name
may lead to 127.0.0.1 (DNS rebinding): Host must be the listener's own address, and a request that another site caused
is refused. The policy for content allows scripts and styles from files of the dashboard alone, and no text as a script
(Trusted Types), so that an ID or a header field that is written as HTML stays a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meshtls.address import Address, is_loopback
from meshtls.errors import RequestError
from meshtls.scalars import shown

__all__ = ["POLICY", "Guard", "refused"]

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_FIELDS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_OURS = ("same-origin", "none")


class Guard:
    """Refuses what is not for it, and adds the header fields to every answer. ``bound`` is the listener's address."""

    def __init__(self, app: ASGIApp, bound: Address) -> None:
        self._app = app
        self._bound = bound

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_FIELDS)
            await send(message)

        why = refused(Headers(scope=scope), self._bound)
        answer: Any = JSONResponse({"error": why}, 403) if why else self._app
        await answer(scope, receive, send_guarded)


def refused(fields: Mapping[str, str], bound: Address) -> str:
    """Why a request with these header fields is not answered; empty if it is."""
    host = fields.get("host", "")
    try:
        # A browser leaves HTTP's own port out.
        named = Address.parse(host if host.rpartition(":")[2].isdigit() and not host.endswith("]") else f"{host}:80")
    except RequestError:
        named = None
    if named is None or not is_loopback(named.host) or named.port != bound.port:
        return f"Host: wanted {bound}, got {shown(host)}: a name that leads here is not enough"
    site = fields.get("sec-fetch-site", "none")
    if site not in _OURS:
        return f"a request that another site caused is refused (Sec-Fetch-Site: {shown(site)})"
    origin = fields.get("origin")
    if origin is not None and origin != f"http://{host}":
        return f"a request that another site caused is refused (Origin: {shown(origin)})"
    return ""
