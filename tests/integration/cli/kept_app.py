"""An HTTP app that keeps its connections, unlike ``meshtls app``: one that lives on must not have ended by itself.

And its client, which asks over a connection that is kept, or over a new one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["answer", "failure_of_new_connection", "kept_app"]


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that was cut off, which http.server would print in the middle of what commands print."""


@contextmanager
def kept_app(port: int = 0) -> Iterator[int]:
    """Serve while the body runs. Yields the port: a free one for 0."""
    with _Server(("127.0.0.1", port), _Answers) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            serving.join()


def answer(connection: HTTPConnection) -> int:
    """The status with which the app answers one more request on this connection."""
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    return response.status


def failure_of_new_connection(port: int, seconds: float) -> str | None:
    """Why a new connection to this port of the machine is not answered with 200; None where it is."""
    try:
        with closing(HTTPConnection("127.0.0.1", port, timeout=seconds)) as connection:
            status = answer(connection)
    except (OSError, HTTPException) as error:
        return repr(error)
    return None if status == 200 else str(status)
