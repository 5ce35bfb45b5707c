"""The kinds of requests."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KINDS", "Kind"]


@dataclass(frozen=True, slots=True)
class Kind:
    """``load`` are h2load's options, apart from the number of requests; ``unit`` names one request."""

    name: str
    unit: str
    method: str
    path: str
    http2: bool
    load: tuple[str, ...]

    @property
    def app(self) -> str:
        """What ``app`` serves it."""
        return "grpc" if self.http2 else "http"


KINDS = (
    Kind("http1", "request, HTTP/1.1 keep-alive, 64 connections", "GET", "/hello", False, ("--h1", "-c", "64")),
    Kind(
        "grpc",
        "unary gRPC call, 8 connections of 8 streams",
        "POST",
        "/echo.Echo/Unary",
        True,
        ("-c", "8", "-m", "8", "-H", "content-type: application/grpc", "-H", "te: trailers"),
    ),
)
