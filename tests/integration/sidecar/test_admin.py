"""The admin interface of real sidecars: what it shows of live and ended connections, and what it never shows."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import stat
from pathlib import Path

import pytest

from meshtls.address import Address
from meshtls.admin.keys import AdminKeys
from meshtls.errors import ConfigError
from meshtls.sidecar.settings import InboundConfig, SidecarConfig
from meshtls.svid.context import ConstantSource
from tests.integration.sidecar.mesh import (
    ANYWHERE,
    DEFAULTS,
    OTHER,
    OURS,
    A,
    B,
    an_app,
    as_b,
    connected,
    echoed,
    rest,
    running,
    side_a,
    side_b,
)
from tests.support.admin import ask
from tests.support.authority import context_for
from tests.support.waiting import SECONDS, until

PAGES = (
    "/certs",
    "/config_dump",
    "/stats",
    "/connections",
    "/routes",
    "/policies",
    "/graph",
    "/handshakes",
    "/ready",
    "/logging",
)
EVERY = (*PAGES, "/server_info", "/help", "/")


@pytest.mark.parametrize("tunnel", [False, True], ids=["alone", "in a tunnel"])
async def test_both_sides_show_a_live_and_an_ended_connection_under_the_same_id(tmp_path: Path, tunnel: bool) -> None:
    near, far = tmp_path / "a.sock", tmp_path / "b.sock"
    async with (
        an_app() as app,
        side_b(app.address, tunnel=tunnel, admin=AdminKeys(socket=far)) as b,
        side_a(b.inbound, tunnel=tunnel, admin=AdminKeys(socket=near)) as a,
    ):
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            (ours,) = (await ask(near, "/connections?direction=outbound")).json["live"]
            theirs = (await ask(far, f"/connections?id={ours['connection_id']}")).json["live"]
            assert [one["connection_id"] for one in theirs] == [ours["connection_id"]]
            assert (ours["source_id"], ours["destination_id"]) == (str(A), str(B))
            assert theirs[0]["bytes_in"] == ours["bytes_in"] == 4
            streams[1].write_eof()
            assert await rest(streams) == b""
        lines = [await node.lines.the("OK") for node in (a, b)]
        assert [line["connection_id"] for line in lines] == [ours["connection_id"]] * 2
        for socket in (near, far):
            (ended,) = (await ask(socket, f"/connections?id={ours['connection_id']}")).json["ended"]
            assert (ended["outcome"], ended["source_id"]) == ("OK", str(A))
    assert tunnel == ("-" in ours["connection_id"])


async def test_both_sides_of_a_refused_handshake_have_its_id_and_its_alert(tmp_path: Path) -> None:
    admin = AdminKeys(socket=tmp_path / "b.sock")
    async with (
        an_app() as app,
        side_b(app.address, allow=(OTHER,), admin=admin) as b,
        side_a(b.inbound) as a,
        connected(a.outbound) as streams,
    ):
        with contextlib.suppress(ConnectionError):
            await echoed(streams)
        ours, theirs = await a.lines.next(), await b.lines.next()
    assert ours["connection_id"] == theirs["connection_id"]
    assert theirs["outcome"] == "POLICY_DENIED"
    assert theirs["alert_sent"] == ours["alert_received"] == "unknown_ca"


async def test_the_socket_is_for_its_user_alone_and_goes_with_the_sidecar(tmp_path: Path) -> None:
    path = tmp_path / "b.sock"
    async with an_app() as app, side_b(app.address, admin=AdminKeys(socket=path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(ConfigError, match="another process listens there"):
            async with side_b(app.address, admin=AdminKeys(socket=path)):
                pass
        who = {"kind": "sidecar", "name": "b", "spiffe_id": str(B)}
        assert (await ask(path, "/ready")).json == {"ready": True, "text": "", **who}
    assert not path.exists()


async def test_no_answer_has_a_key_in_it(tmp_path: Path) -> None:
    path, context = tmp_path / "b.sock", as_b()
    number = context.svid.private_key.private_numbers().private_value  # type: ignore[union-attr]
    raw = number.to_bytes(32, "big")
    der = context.svid.key_der()
    secret = [raw.hex(), base64.b64encode(der).decode()[40:80], base64.urlsafe_b64encode(raw).decode().rstrip("=")]
    secret += [str(number), "PRIVATE KEY"]
    async with an_app() as app, side_b(app.address, source=ConstantSource(context), admin=AdminKeys(socket=path)):
        for page in EVERY:
            for form in ("json", "text"):
                got = await ask(path, f"{page}?format={form}")
                assert got.status == 200, page
                assert not [one for one in secret if one.lower() in got.body.lower()], page
        assert context.svid.serial in (await ask(path, "/certs")).body


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_is_json_for_programs_and_text_for_people(tmp_path: Path, page: str) -> None:
    path = tmp_path / "b.sock"
    async with an_app() as app, side_b(app.address, admin=AdminKeys(socket=path)):
        plain, people = await ask(path, page), await ask(path, page, Accept="text/plain")
        assert "Content-Type: application/json" in plain.head
        assert isinstance(plain.json, dict)
        assert "Content-Type: text/plain" in people.head
        assert not people.body.startswith("{")
        assert people.body == (await ask(path, f"{page}?format=text")).body or "seconds" in people.body


@pytest.mark.parametrize(
    ("path", "method", "status", "why"),
    [
        ("/drain", "GET", 405, "/drain: wanted POST, got 'GET'"),
        ("/certs", "POST", 405, "/certs: wanted GET or HEAD, got 'POST'"),
        ("/certs", "DELETE", 405, "/certs: wanted GET or HEAD, got 'DELETE'"),
        ("/quitquitquit", "GET", 404, "wanted one of /certs, "),
        ("/certs?key=1", "GET", 400, "/certs: wanted format, got 'key'"),
        ("/certs?format=xml", "GET", 400, "format: wanted json or text, got 'xml'"),
        ("/connections?limit=-1", "GET", 400, "limit: wanted a number, 0 to 100000, got '-1'"),
        ("/connections?state=dead", "GET", 400, "state: wanted live or ended, got 'dead'"),
        ("/connections?id=a&id=b", "GET", 400, "wanted each word once"),
        ("/logging?level=LOUD", "POST", 400, "wanted DEBUG, INFO, WARN or ERROR, got 'LOUD'"),
        ("/logging?level=DEBUG&logger=nobody.logs.here", "POST", 400, "logger: wanted one of "),
        ("/tap?event=all", "GET", 400, "event: wanted opened, request, ended, got 'all'"),
    ],
)
async def test_a_wrong_request_says_what_was_wanted(
    tmp_path: Path, path: str, method: str, status: int, why: str
) -> None:
    socket = tmp_path / "b.sock"
    async with an_app() as app, side_b(app.address, admin=AdminKeys(socket=socket)):
        got = await ask(socket, path, method)
        assert (got.status, got.json["error"][: len(why)]) == (status, why)
        assert (await ask(socket, "/ready")).json["ready"]


async def test_draining_accepts_nothing_more_and_lets_live_connections_end(tmp_path: Path) -> None:
    socket = tmp_path / "b.sock"
    async with (
        an_app() as app,
        side_b(app.address, admin=AdminKeys(socket=socket)) as b,
        side_a(b.inbound) as a,
        connected(a.outbound) as streams,
    ):
        assert await echoed(streams) == b"ping"
        assert (await ask(socket, "/drain", "POST")).json == {"state": "draining", "live_connections": 1}
        ready = await ask(socket, "/ready")
        assert (ready.status, ready.json["ready"]) == (503, False)
        await until(lambda: b.sidecar.inbound[0].state.name == "CLOSED")
        assert await echoed(streams, b"still here") == b"still here"


async def test_a_level_is_changed_while_it_runs(tmp_path: Path) -> None:
    socket, one = tmp_path / "b.sock", logging.getLogger("meshtls.sidecar")
    async with an_app() as app, side_b(app.address, admin=AdminKeys(socket=socket)):
        try:
            got = await ask(socket, "/logging", "POST", "level=debug&logger=meshtls.sidecar")
            assert (got.status, got.json["loggers"]["meshtls.sidecar"]) == (200, "DEBUG")
            assert one.isEnabledFor(logging.DEBUG)
            await ask(socket, "/logging?level=inherit&logger=meshtls.sidecar", "POST")
            assert one.level == logging.NOTSET
        finally:
            one.setLevel(logging.NOTSET)


async def test_tcp_is_for_reading_on_its_own_address_and_not_for_a_web_page(tmp_path: Path) -> None:
    keys = AdminKeys(socket=tmp_path / "b.sock", listen=Address("127.0.0.1", 0))
    async with an_app() as app, side_b(app.address, admin=keys) as b:
        where = b.sidecar.admin
        assert where is not None
        assert (await ask(where, "/server_info")).json["name"] == "b"
        assert (await ask(where, "/server_info", Host=f"localhost:{where.port}")).status == 200
        for refused in (
            {"Host": f"evil.example:{where.port}"},
            {"Host": "127.0.0.1:1"},
            {"Host": ""},
            {"Origin": "http://evil.example"},
            {"Sec_Fetch_Site": "cross-site"},
        ):
            assert (await ask(where, "/server_info", **refused)).status == 403, refused
        assert (await ask(where, "/drain", "POST")).status == 403
        assert (await ask(where, "/logging?level=DEBUG", "POST")).status == 403
        ready = (await ask(where, "/ready")).json
        assert ready["ready"]
        assert "every user of this machine can read the admin interface" in ready["text"]


async def test_a_tap_asked_by_head_has_a_head_alone(tmp_path: Path) -> None:
    socket = tmp_path / "b.sock"
    async with an_app() as app, side_b(app.address, admin=AdminKeys(socket=socket)):
        got = await ask(socket, "/tap", "HEAD")
        assert (got.status, got.body) == (200, "")
        assert "Content-Type: application/jsonl" in got.head


async def test_a_tap_tells_of_what_its_filter_lets_through(tmp_path: Path) -> None:
    socket = tmp_path / "b.sock"
    other = context_for(OURS, OTHER)
    async with (
        an_app() as app,
        side_b(app.address, admin=AdminKeys(socket=socket)) as b,
        side_a(b.inbound) as a,
        side_a(b.inbound, other) as stranger,
    ):
        reader, writer = await asyncio.open_unix_connection(str(socket))
        writer.write(b"GET /tap?verdict=denied HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(SECONDS):
            await reader.readuntil(b"\r\n\r\n")
            assert json.loads(await reader.readline()) == {"event": "following", "filters": {"verdict": "denied"}}
            for node in (a, stranger):
                async with connected(node.outbound) as streams:
                    with contextlib.suppress(ConnectionError):
                        await echoed(streams)
            while (told := json.loads(await reader.readline()))["event"] == "idle":
                pass
        assert (told["event"], told["outcome"], told["source_id"]) == ("ended", "POLICY_DENIED", str(OTHER))
        writer.close()
        await until(lambda: b.sidecar.registry.unproven is not None)


async def test_live_and_ended_connections_are_asked_for_by_themselves(tmp_path: Path) -> None:
    socket = tmp_path / "b.sock"
    async with (
        an_app() as app,
        side_b(app.address, admin=AdminKeys(socket=socket)) as b,
        side_a(b.inbound) as a,
        connected(a.outbound) as streams,
    ):
        async with connected(a.outbound) as other:
            assert await echoed(other) == b"ping"
            other[1].write_eof()
            await rest(other)
        await b.lines.next()
        assert await echoed(streams) == b"ping"
        for state, counts in (("live", (1, 0)), ("ended", (0, 1))):
            found = (await ask(socket, f"/connections?state={state}")).json
            assert (len(found["live"]), len(found["ended"])) == counts


async def test_the_messages_of_a_handshake_are_kept_where_an_operator_can_ask_and_nowhere_else(tmp_path: Path) -> None:
    socket = tmp_path / "b.sock"
    async with (
        an_app() as app,
        side_b(app.address, admin=AdminKeys(socket=socket)) as b,
        side_a(b.inbound) as a,
        connected(a.outbound) as streams,
    ):
        assert await echoed(streams) == b"ping"
        (found,) = (await ask(socket, "/handshakes")).json["handshakes"]
        assert [one["type"] for one in found["messages"]] == [1, 2, 8, 13, 11, 15, 20, 11, 15, 20]
        assert bytes.fromhex(found["messages"][0]["hex"])[6:14].hex() == found["connection_id"]
        assert a.sidecar.runtime.reporter.handshakes is None
        # What was kept is no part of the connection any more.
        assert [one.engine.transcript for one in b.sidecar.registry.connections if one.engine] == [None]


async def test_the_graph_has_an_edge_for_each_pair_and_counts_by_verdict(tmp_path: Path) -> None:
    socket = tmp_path / "b.sock"
    async with (
        an_app() as app,
        side_b(app.address, admin=AdminKeys(socket=socket)) as b,
        side_a(b.inbound) as a,
        side_a(b.inbound, context_for(OURS, OTHER)) as stranger,
    ):
        for node in (a, a, stranger):
            async with connected(node.outbound) as streams:
                with contextlib.suppress(ConnectionError):
                    await echoed(streams)
                    streams[1].write_eof()
                    await rest(streams)
            await b.lines.next()
        edges = (await ask(socket, "/graph")).json["edges"]
    counts = {one["source_id"]: (one["allowed"], one["denied"], one["mutual_tls"]) for one in edges}
    # The denied one's handshake was refused: it was never mutual TLS.
    assert counts == {str(A): (2, 0, 2), str(OTHER): (0, 1, 0)}


async def test_metrics_are_answered_where_they_are_counted_in_the_form_that_is_accepted(tmp_path: Path) -> None:
    socket = tmp_path / "b.sock"
    keys = AdminKeys(socket=socket)
    async with an_app() as app:
        async with side_b(app.address, admin=keys):
            assert (await ask(socket, "/stats/prometheus")).status == 400
        async with side_b(app.address, admin=keys, metrics=ANYWHERE):
            got = await ask(socket, "/stats/prometheus", Accept="application/openmetrics-text")
        assert (got.status, got.body[-6:]) == (200, "# EOF\n")
        assert "\nmeshtls_ready 1\n" in got.body
        assert "Content-Type: application/openmetrics-text" in got.head


async def test_tls_secrets_are_given_on_the_unix_socket_alone_and_only_by_a_sidecar_that_writes_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, keylog = tmp_path / "b.sock", tmp_path / "keys.log"
    async with an_app() as app:
        inbound = InboundConfig(listen=ANYWHERE, app=app.address, allow=(A,))
        config = SidecarConfig(
            name="b",
            spiffe_id=B,
            inbound=(inbound,),
            limits=DEFAULTS,
            admin=AdminKeys(socket=path, listen=Address("127.0.0.1", 0)),
            insecure_keylog_file=keylog,
        )
        async with running(config, ConstantSource(as_b())) as b, side_a(b.inbound) as a:
            async with connected(a.outbound) as streams:
                assert await echoed(streams) == b"ping"
            found = (await ask(path, "/tls_keys")).json
            assert found["lines"].encode() == keylog.read_bytes()
            assert (await ask(path, f"/tls_keys?from={found['next']}")).json == {"lines": "", "next": found["next"]}
            assert [one for one in caplog.messages if "/tls_keys" in one and one.startswith("INSECURE: ")]
            assert b.sidecar.admin is not None
            over_tcp = await ask(b.sidecar.admin, "/tls_keys")
            wanted = "/tls_keys gives secrets away: ask on the Unix socket (admin.socket)"
            assert (over_tcp.status, over_tcp.json) == (400, {"error": wanted})
        async with side_b(app.address, admin=AdminKeys(socket=path)):
            refused = await ask(path, "/tls_keys")
            assert (refused.status, refused.json["error"]) == (
                400,
                "/tls_keys: this sidecar keeps no TLS secrets: set insecure_keylog_file and run it with"
                " --allow-insecure-keylog while you debug",
            )
