"""The verbs that ask running processes, as an operator runs them, beside two real sidecars in this process."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from meshtls.admin.keys import AdminKeys
from meshtls.cli.sidecar import serving_text
from meshtls.sidecar.settings import OutboundConfig, Protocol, SidecarConfig
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import ConstantSource
from tests.integration.sidecar.governed import a_web_app, governed
from tests.integration.sidecar.mesh import (
    ANYWHERE,
    OTHER,
    OURS,
    A,
    B,
    Node,
    an_app,
    as_b,
    connected,
    echoed,
    rest,
    running,
    side_a,
    side_b,
)
from tests.support.authority import context_for
from tests.support.waiting import SECONDS


async def meshtls(*words: str | Path) -> tuple[int, str, str]:
    """Run the command line: its status, standard output, standard error."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "meshtls", *map(str, words), stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def mesh(directory: Path) -> AsyncIterator[tuple[Node, Node, Node]]:
    """A caller, a stranger and a server, each with its admin socket."""
    keys = {name: AdminKeys(socket=directory / f"{name}.sock") for name in "axb"}
    async with (
        an_app() as app,
        side_b(app.address, admin=keys["b"]) as b,
        side_a(b.inbound, admin=keys["a"]) as a,
        side_a(b.inbound, context_for(OURS, OTHER), admin=keys["x"]) as x,
    ):
        yield a, x, b


async def call(node: Node) -> dict[str, Any]:
    """One connection through this sidecar, and its line there."""
    async with connected(node.outbound) as streams:
        with contextlib.suppress(ConnectionError):
            await echoed(streams)
            streams[1].write_eof()
            await rest(streams)
    return await node.lines.next()


async def test_admin_shows_pages_for_people_and_for_programs(tmp_path: Path) -> None:
    async with mesh(tmp_path) as (_, _, b):
        status, out, _ = await meshtls("admin", "server_info", "--socket", tmp_path / "b.sock", "--output", "json")
        assert (status, json.loads(out)["spiffe_id"]) == (0, str(B))
        status, out, _ = await meshtls(
            "admin", "routes", "--socket", tmp_path / "b.sock", "--socket", tmp_path / "a.sock"
        )
        assert status == 0
        assert f"{b.inbound}" in out
        assert str(B) in out
        status, out, _ = await meshtls("admin", "ready", "--socket", tmp_path / "b.sock")
        lines = ["ready:                   yes", "text:", "kind:                    sidecar"]
        lines += ["name:                    b", f"spiffe id:               {B}"]
        assert (status, out.splitlines()) == (0, lines)


async def test_connections_are_lines_that_fit_a_screen_and_one_by_its_id_is_whole(tmp_path: Path) -> None:
    socket = ("--socket", tmp_path / "a.sock")
    async with mesh(tmp_path) as (a, _, _):
        lines = [await call(a) for _ in range(3)]
        _, short, _ = await meshtls("admin", "connections", "limit=2", *socket)
        _, usual, _ = await meshtls("admin", "connections", *socket)
        _, one, _ = await meshtls("admin", "connections", f"id={lines[0]['connection_id']}", *socket)
        _, whole, _ = await meshtls("admin", "connections", *socket, "--output", "json")
    ids = [line["connection_id"] for line in reversed(lines)]
    assert [[one for one in ids if f"  {one}  outbound   OK       " in text] for text in (short, usual)] == [
        ids[:2],
        ids,
    ]
    assert max(map(len, usual.splitlines())) <= 120
    assert f"  local serial:            {lines[0]['local_serial']}\n" in one
    assert [one["connection_id"] for one in json.loads(whole)["ended"]] == ids
    assert {"local_serial", "detail", "cipher_suite"} <= set(json.loads(whole)["ended"][0])


async def test_an_answer_of_some_megabytes_is_read_to_its_end(tmp_path: Path) -> None:
    allowed = tuple(SpiffeId.parse(f"spiffe://a.test/{'long' * 400}/{number}") for number in range(2000))
    async with an_app() as app, side_b(app.address, allow=allowed, admin=AdminKeys(socket=tmp_path / "b.sock")):
        status, out, err = await meshtls("admin", "config_dump", "--socket", tmp_path / "b.sock", "--output", "json")
    assert (status, err) == (0, "")
    assert json.loads(out)["config"]["inbound"][0]["allow"] == list(map(str, allowed))


async def test_admin_changes_what_it_is_told_to(tmp_path: Path) -> None:
    async with mesh(tmp_path) as (_, _, b):
        status, out, _ = await meshtls("admin", "drain", "--socket", tmp_path / "b.sock")
        assert status == 0
        assert "draining" in out
        assert not b.sidecar.readiness().ready
        status, _, _ = await meshtls("admin", "ready", "--socket", tmp_path / "b.sock")
        assert status == 1


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (
            ("admin", "certs"),
            2,
            "wanted --sidecar, --socket, --address or --config, or MESHTLS_ADMIN_INTERFACE with paths",
        ),
        (("admin", "certs", "--socket", "nothing.sock"), 2, "nothing.sock: nothing answers there: No such file"),
        (("top", "--socket", "nothing.sock"), 2, "nothing.sock: nothing answers there: No such file"),
        (("admin", "certs", "key=1", "--socket", "b.sock"), 1, "/certs: wanted format, got 'key'"),
        (("admin", "certs", "key", "--socket", "b.sock"), 2, "wanted NAME=VALUE, each name once, got 'key'"),
        (("explain", "connection", "00", "--socket", "b.sock"), 1, "connection 00: no record of it in b.sock"),
        (("explain",), 2, "wanted one of --pid and --uid"),
    ],
)
async def test_a_wrong_word_says_what_was_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], status: int, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESHTLS_ADMIN_INTERFACE", raising=False)
    monkeypatch.setenv("MESHTLS_ADMIN_SOCKET", "b.sock")  # that of another interface: the server's API
    async with an_app() as app, side_b(app.address, admin=AdminKeys(socket=Path("b.sock"))):
        code, out, err = await meshtls(*words)
    assert (code, out) == (status, "")
    assert why in " ".join(err.split())


async def test_a_refusal_is_explained_from_both_sides(tmp_path: Path) -> None:
    async with mesh(tmp_path) as (_, x, b):
        ours, theirs = await call(x), await b.lines.next()
        sockets = ("--socket", tmp_path / "x.sock", "--socket", tmp_path / "b.sock")
        status, out, err = await meshtls("explain", "connection", ours["connection_id"], *sockets)
    assert (status, err) == (0, "")
    for told in (
        f"connection {ours['connection_id']}\n",
        f"  from:    {OTHER}\n  to:      {B}\n",
        "by the server's clock",
        "  caller:  a: HANDSHAKE_FAILED after ",
        "  server:  b: POLICY_DENIED after ",
        f"caller's certificate {ours['local_serial']}, as the server saw it",
        "  alert:   unknown_ca, sent by the server, which arrived\n",
        f"  cause:   POLICY_DENIED: {B} refused {OTHER}, whose identity is not allowed\n",
        f"           {theirs['detail']}\n",
        "  next:    if it is to be allowed, add the caller to the inbound's allow or to a policy:"
        f" `meshtls policy explain --from {OTHER} --config FILE` shows what would let it in\n",
    ):
        assert told in out


async def test_the_advised_policy_explain_repeats_the_refusal_and_names_what_lets_the_caller_in(tmp_path: Path) -> None:
    async with mesh(tmp_path) as (a, x, b):
        await call(x)
        refused = await b.lines.next()
        file = tmp_path / "b.yaml"
        inbound = {"listen": str(b.inbound), "app": "127.0.0.1:9", "allow": [str(A)]}
        file.write_text(json.dumps({"name": "b", "spiffe_id": str(B), "inbound": [inbound]}))
        words = ("policy", "explain", "--config", file, "--from")
        status, out, err = await meshtls(*words, str(OTHER))
        assert (status, err) == (1, "")
        assert out.splitlines()[1] == refused["detail"]
        assert out.endswith(f"  To allow this caller, add it to inbound[0].allow in {file}:\n    - {OTHER}\n")
        assert (await meshtls(*words, str(A)))[0] == 0
        await call(a)
        assert (await b.lines.next())["outcome"] == "OK"

        b.sidecar.set_allow(0, [A, OTHER])
        file.write_text(file.read_text().replace(f'"{A}"', f'"{A}", "{OTHER}"'))
        assert (await meshtls(*words, str(OTHER)))[0] == 0
        await call(x)
        assert (await b.lines.next())["outcome"] == "OK"


async def test_a_connection_is_explained_from_an_access_log_where_a_sidecar_can_t_be_asked(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with mesh(tmp_path) as (a, _, b):
        ours = await call(a)
        log.write_text("{broken\n" + json.dumps(await b.lines.next()) + "\n")
        words = ("explain", "connection", ours["connection_id"], "--socket", tmp_path / "a.sock")
        _, alone, _ = await meshtls(*words)
        _, both, _ = await meshtls(*words, "--log", log)
        packed = tmp_path / "access.log.gz"
        packed.write_bytes(gzip.compress(log.read_bytes()))
        _, unpacked, _ = await meshtls(*words, "--log", packed)
    assert unpacked == both
    no_record = "no record: if it has a sidecar, ask that too, or give its access log with --log"
    assert f"  server:  {no_record}\n" in alone
    assert (
        "  cause:   OK: the connection was allowed and closed by both sides; nothing is known of its HTTP requests\n"
        "           closed by both sides\n"
        "  next:    ask the server's sidecar, too: only it reads HTTP requests\n"
    ) in alone
    assert "  server:  b: OK after " in both
    assert "no record" not in both
    assert "  next:    nothing: it was allowed, and both sides closed it\n" in both


_ALLOWS_OK = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: default}
spec:
  rules:
  - from: [{source: {principals: [example.org/ns/default/sa/service-a]}}]
    to: [{operation: {paths: [/ok]}}]
"""


@pytest.mark.parametrize("path", ["/secret", "/ok"])
async def test_a_connection_whose_request_was_denied_is_explained_by_the_request(tmp_path: Path, path: str) -> None:
    keys = {name: AdminKeys(socket=tmp_path / f"{name}.sock") for name in "ab"}
    async with (
        a_web_app() as app,
        governed(app.address, _ALLOWS_OK, protocol=Protocol.HTTP, admin=keys["b"]) as b,
        side_a(b.inbound, admin=keys["a"]) as a,
    ):
        async with httpx.AsyncClient() as client:
            status = (await client.get(f"http://{a.outbound}{path}")).status_code
        ours = await a.lines.next()
        await b.lines.the("OK")  # of the connection
        asked = ("explain", "connection", ours["connection_id"], "--socket", tmp_path / "a.sock")
        _, alone, _ = await meshtls(*asked)
        _, both, _ = await meshtls(*asked, "--socket", tmp_path / "b.sock")
        _, drawn, _ = await meshtls("graph", "--socket", tmp_path / "b.sock", "--format", "dot")
    assert "; nothing is known of its HTTP requests\n" in alone
    if path == "/ok":
        assert status == 200
        assert "  cause:   OK: the connection was allowed and closed by both sides\n" in both
        assert '100 % mTLS, 1 request", color=darkgreen' in drawn
        return
    assert status == 403
    assert (
        "  cause:   the connection was fine; 1 of 1 request was denied: POLICY_DENIED: the policies of"
        f" {B} do not allow this HTTP request of {A}\n"
    ) in both
    assert f"`meshtls policy explain --from {A} --config FILE --path /secret` shows what decides\n" in both
    assert '100 % mTLS, 1 request, 1 denied", color=red' in drawn


async def test_graph_claims_neither_mutual_tls_nor_plaintext_of_what_was_not_seen(tmp_path: Path) -> None:
    async with (
        an_app() as app,
        side_b(app.address, admin=AdminKeys(socket=tmp_path / "b.sock")) as b,
        running(
            SidecarConfig(
                name="a",
                spiffe_id=A,
                outbound=(OutboundConfig(listen=ANYWHERE, to=b.inbound, peer=B),),
                admin=AdminKeys(socket=tmp_path / "a.sock"),
            ),
            ConstantSource(as_b()),
        ) as a,
    ):
        for first in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"):
            async with connected(b.inbound) as streams:
                streams[1].write(first)
                await rest(streams)
            await b.lines.next()
        await call(a)  # it has no SVID of its own
        sockets = [word for name in "ab" for word in ("--socket", tmp_path / f"{name}.sock")]
        _, out, _ = await meshtls("graph", *sockets, "--format", "dot")
    assert out.splitlines()[2:-1] == [
        f'  "(no proven identity)" -> "{B}" [label="1 connection, 0 % allowed, - mTLS", color=grey];',
        f'  "(plaintext)" -> "{B}" [label="1 connection, 0 % allowed, 0 % mTLS", color=red];',
        f'  "{A}" -> "(not reached)" [label="1 connection, 0 % allowed, - mTLS", color=grey];',
    ]


async def test_a_connection_is_explained_from_access_logs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MESHTLS_ADMIN_INTERFACE", raising=False)
    near, far = tmp_path / "a.log", tmp_path / "b.log"
    async with mesh(tmp_path) as (a, _, b):
        ours = await call(a)
        near.write_text(json.dumps(ours) + "\n")
        far.write_text(json.dumps(await b.lines.next()) + "\n")
    words = ("explain", "connection", ours["connection_id"])
    status, out, err = await meshtls(*words, "--log", near, "--log", far)
    assert (status, err) == (0, "")
    assert "  server:  b: OK after " in out
    assert "no record" not in out
    status, out, err = await meshtls(*words)
    assert (status, out) == (2, "")
    assert err.startswith(
        "meshtls: wanted --sidecar, --socket, --address or --config, or MESHTLS_ADMIN_INTERFACE with paths"
    )


@pytest.mark.parametrize("between", [",", ":"])
async def test_the_variable_names_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    async with mesh(tmp_path):
        both = [str(tmp_path / "a.sock"), str(tmp_path / "b.sock")]
        monkeypatch.setenv("MESHTLS_ADMIN_INTERFACE", between.join(both))
        status, out, _ = await meshtls("admin", "ready", "--output", "json")
    assert (status, [one["asked"] for one in json.loads(out)["processes"]]) == (0, both)


async def test_a_page_is_also_taken_as_help_lists_it(tmp_path: Path) -> None:
    async with mesh(tmp_path):
        socket = ("--socket", tmp_path / "b.sock")
        plain, slashed = [await meshtls("admin", page, *socket) for page in ("routes", "/routes")]
        assert (slashed[0], slashed[1]) == (0, plain[1])
        status, _, err = await meshtls("admin", "tap", *socket)
    assert status == 2
    assert "`meshtls tap` follows it" in err


async def test_the_metrics_are_printed_as_prometheus_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    socket = ("--socket", path)
    async with an_app() as app, side_b(app.address, admin=AdminKeys(socket=path), metrics=ANYWHERE):
        for page in ("stats/prometheus", "/stats/prometheus"):
            status, out, err = await meshtls("admin", page, *socket)
            assert (status, err) == (0, "")
            assert [line for line in out.splitlines() if line.startswith("# TYPE meshtls_")]
        _, out, _ = await meshtls("admin", "stats", *socket)
        assert "\nmetrics:                 /stats/prometheus has them\n" in out
        _, record, _ = await meshtls("admin", "stats/prometheus", *socket, "--output", "json")
        assert "# TYPE meshtls_" in json.loads(record)["text"]
        _, out, _ = await meshtls("admin", "stats/prometheus", *socket, *socket)
        assert [line for line in out.splitlines() if line.startswith("# asked")] == [f"# asked: {path}"] * 2
        status, _, err = await meshtls("admin", "stats/prometheus", "a=b", *socket)
        assert (status, err.splitlines()[-1]) == (2, "Error: wanted no NAME=VALUE after stats/prometheus, got 'a'")
    async with mesh(tmp_path):
        where = tmp_path / "b.sock"
        assert await meshtls("admin", "stats/prometheus", "--socket", where) == (
            1,
            "",
            f"meshtls: {where}: /stats/prometheus: no metrics are counted: set metrics.listen in the sidecar's file,"
            " and restart it; /stats has what is known\n",
        )
        _, out, _ = await meshtls("admin", "stats", "--socket", where)
        assert "\nmetrics:                 no metrics are counted: set metrics.listen in the sidecar's file" in out


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        ('{"event": "idle"}', ""),
        (
            "{}",
            "events of /tap (following, idle, lost, opened, request, ended), got one with event=None",
        ),
        (
            '{"event": ["ended"]}',
            "events of /tap (following, idle, lost, opened, request, ended), got one with event=['ended']",
        ),
        ('{"event": "lost"}', "a number as count of the event 'lost', got none"),
        ('{"event": "lost", "count": "many"}', "a number as count of the event 'lost', got 'many'"),
        ('{"event": "opened", "direction": "inbound"}', "a text as remote of the event 'opened', got none"),
    ],
)
@pytest.mark.parametrize("verb", ["tap", "top"])
async def test_a_process_that_sends_other_events_is_told_in_a_line(
    tmp_path: Path, verb: str, event: str, wanted: str
) -> None:
    path = tmp_path / "hostile.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + event.encode() + b"\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, path):
        status, _, err = await meshtls(verb, "--socket", path)
    told = f"meshtls: {path}: wanted {wanted}; does meshtls run there?\n" if wanted else ""
    assert (status, err) == (2 if wanted else 0, told)


async def test_the_api_of_a_server_is_told_from_an_admin_interface(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_unix_server(end, path):
        status, out, err = await meshtls("admin", "certs", "--socket", path)
    assert (status, out) == (2, "")
    assert err == (
        f"meshtls: {path}: this is not the admin interface (admin.socket), which answers in HTTP; the server's"
        " socket_path and an agent's Workload API are other sockets\n"
    )


async def test_a_sidecar_says_at_its_start_where_it_can_be_asked(tmp_path: Path) -> None:
    async with mesh(tmp_path) as (_, _, b):
        told = serving_text(b.sidecar)
    assert told.endswith(f"; admin interface on {tmp_path / 'b.sock'}")
    async with an_app() as app, side_b(app.address) as b:
        told = serving_text(b.sidecar)
    assert "admin interface" not in told


async def test_an_admin_interface_is_told_from_the_api_of_a_server(tmp_path: Path) -> None:
    async with mesh(tmp_path):
        status, out, err = await meshtls("entry", "show", "--socket", tmp_path / "b.sock")
    assert (status, out) == (1, "")
    assert err == (
        f"meshtls: {tmp_path / 'b.sock'}: this is the admin interface (admin.socket); --socket wants the server's"
        " socket_path, by default meshtls-data/admin.sock\n"
    )


async def test_check_tells_an_admin_interface_from_the_api_of_a_server(tmp_path: Path) -> None:
    async with mesh(tmp_path):
        status, out, err = await meshtls("check", "--socket", tmp_path / "b.sock", "--output", "json")
    (asked,) = [group for group in json.loads(out)["groups"] if group["group"] == "the running server"]
    ready = asked["checks"][-1]
    assert ready["reason"] == (
        f"{tmp_path / 'b.sock'}: this is the admin interface (admin.socket); --socket wants the server's"
        " socket_path, by default meshtls-data/admin.sock"
    )
    assert (status, err, ready["advice"]) == (1, "", "`meshtls admin ready` asks this one")


async def test_tap_prints_what_its_filters_let_through_and_top_sums_it_up(tmp_path: Path) -> None:
    async with mesh(tmp_path) as (a, x, _):
        socket = ("--socket", tmp_path / "b.sock", "--output", "json")
        tap = asyncio.create_task(meshtls("tap", "--verdict", "denied", "--count", "1", *socket))
        top = asyncio.create_task(meshtls("top", "--interval", "1s", "--rounds", "5", *socket))
        while not tap.done():
            await call(a)
            await call(x)
        status, out, err = await tap
        assert (status, err) == (0, "")
        assert (json.loads(out)["outcome"], json.loads(out)["source_id"]) == ("POLICY_DENIED", str(OTHER))
        status, out, _ = await top
        assert status == 0
        rows = [row for line in out.splitlines() for row in json.loads(line)["pairs"]]
        assert {row["source"] for row in rows} <= {str(A), str(OTHER)}


async def test_graph_joins_both_sides_into_one_edge(tmp_path: Path) -> None:
    async with mesh(tmp_path) as (a, x, b):
        for node in (a, x):
            await call(node)
            await b.lines.next()
        sockets = [word for name in "axb" for word in ("--socket", tmp_path / f"{name}.sock")]
        _, out, _ = await meshtls("graph", *sockets, "--output", "json")
        edges = {one["source_id"]: one for one in json.loads(out)["edges"]}
        assert edges.keys() == {str(A), str(OTHER)}
        assert (edges[str(A)]["allowed"], edges[str(OTHER)]["denied"]) == (1, 1)
        assert {one["reporter"] for one in edges.values()} == {"destination"}
        _, out, _ = await meshtls("graph", *sockets, "--format", "dot")
        assert f'  "{A}" -> "{B}" [label="1 connection, 100 % allowed, 100 % mTLS", color=darkgreen];' in out
        assert f'"{OTHER}" -> "{B}"' in out
        _, out, _ = await meshtls("graph", *sockets, "--format", "mermaid")
        assert out.startswith("flowchart LR\n")
        assert "-.->" in out
