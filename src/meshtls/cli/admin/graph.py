"""``meshtls graph``: who talks to whom, of all processes that are asked: a table, DOT, or Mermaid."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

import click

from meshtls.admin.asking import Interfaces, ask_all
from meshtls.admin.edges import Edge, EdgeState, joined, share, state_of
from meshtls.admin.words import in_words
from meshtls.cli.admin.client import admin_options
from meshtls.cli.options import output_option
from meshtls.cli.output import Output, tell
from meshtls.printable import printable
from meshtls.scalars import count_of

__all__ = ["dot", "graph", "mermaid"]


@click.command()
@click.option("--format", "form", type=click.Choice(["text", "dot", "mermaid"]), default="text", show_default=True)
@admin_options
@output_option
def graph(form: str, interfaces: Interfaces, out: Output) -> None:
    """Print who talks to whom, with rates over the last minute, success and the share of mutual TLS.

    Both sidecars of a connection report it. Where both are asked, it counts once, by the server's side. The share of
    mutual TLS is of the connections whose security was seen: a handshake that did not end well is in neither part.
    """
    answers = asyncio.run(ask_all(interfaces, "/graph"))
    edges = joined(edge for answer in answers for edge in answer["edges"])
    if out.as_json:
        out.record({"edges": edges})
    elif form == "dot":
        tell(*dot(edges))
    elif form == "mermaid":
        tell(*mermaid(edges))
    elif edges:
        out.record({}, in_words({"edges": [_row(one) for one in edges]}))
    else:
        tell("no connection has ended yet")


def _row(edge: Edge) -> dict[str, object]:
    return {
        "source": edge["source_id"],
        "destination": edge["destination_id"],
        "connections": edge["connections"],
        "per_second": edge["connections_per_second"],
        "success": share(edge["allowed"], edge["connections"]),
        "mTLS": _mutual(edge),
        "requests": edge["requests"],
        "requests_per_second": edge["requests_per_second"],
        "request_success": share(edge["requests"] - edge["failed_requests"], edge["requests"]),
        "ms": edge["request_ms"],
    }


def _mutual(edge: Edge) -> str:
    return share(edge["mutual_tls"], edge["mutual_tls"] + edge.get("tls", 0) + edge.get("plaintext", 0))


def _label(edge: Edge) -> str:
    parts = [f"{count_of(edge['connections'], 'connection')}, {share(edge['allowed'], edge['connections'])} allowed"]
    parts.append(f"{_mutual(edge)} mTLS")
    if edge["requests"]:
        parts.append(count_of(edge["requests"], "request"))
        denied = edge.get("denied_requests", 0)
        failed = edge["failed_requests"] - denied
        parts += [f"{count} {word}" for count, word in ((denied, "denied"), (failed, "failed")) if count]
    return ", ".join(parts)


_COLOURS = {
    EdgeState.DENIED: "red",
    EdgeState.FAILED: "grey",
    EdgeState.PLAINTEXT: "orange",
    EdgeState.TLS: "blue",
    EdgeState.MUTUAL_TLS: "darkgreen",
}
#: Nothing was served.
_BROKEN = (EdgeState.DENIED, EdgeState.FAILED)


def dot(edges: Iterable[Edge]) -> Iterator[str]:
    """Graphviz's language. IDs come from peers, so each is a quoted string."""
    yield "digraph mesh {"
    yield "  rankdir=LR;"
    for edge in edges:
        ends = f"{_quoted(edge['source_id'])} -> {_quoted(edge['destination_id'])}"
        yield f"  {ends} [label={_quoted(_label(edge))}, color={_COLOURS[state_of(edge)]}];"
    yield "}"


def mermaid(edges: Iterable[Edge]) -> Iterator[str]:
    """Mermaid's language, with a number for each node, and what peers sent as its label alone."""
    yield "flowchart LR"
    nodes: dict[str, str] = {}
    for edge in edges:
        ends = []
        for name in (edge["source_id"], edge["destination_id"]):
            if name not in nodes:
                nodes[name] = f"n{len(nodes)}"
                yield f'  {nodes[name]}["{_entities(name)}"]'
            ends.append(nodes[name])
        arrow = "-.->" if state_of(edge) in _BROKEN else "-->"
        yield f'  {ends[0]} {arrow}|"{_entities(_label(edge))}"| {ends[1]}'


def _quoted(text: str) -> str:
    escaped = printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _entities(text: str) -> str:
    return "".join(one if one.isalnum() or one in " :/.-_,%()" else f"#{ord(one)};" for one in printable(text))
