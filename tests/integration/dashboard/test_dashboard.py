"""The dashboard beside real sidecars: what its pages say, whom it answers, and what it may be told to do."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from meshtls.admin import asking
from meshtls.dashboard import collect
from meshtls.dashboard.app import MOST_STREAMS
from meshtls.dashboard.guard import POLICY
from tests.integration.dashboard.site import Site, a_site, call
from tests.integration.sidecar.mesh import OTHER, A, B, connected, echoed
from tests.support.admin import Got, ask
from tests.support.waiting import SECONDS, until

TOKEN = "a-token-of-the-test-0123456789"  # noqa: S105  # it opens nothing else


def _edges(view: Any) -> dict[tuple[str, str], tuple[str, int, int]]:
    return {
        (one["source"], one["destination"]): (one["state"], one["denied"], one["connections"]) for one in view["edges"]
    }


async def test_the_graph_and_the_denials_are_those_of_the_mesh(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        await call(site.a)
        line = await call(site.x)
        wanted = {(str(A), str(B)): ("mtls", 0, 1), (str(OTHER), str(B)): ("denied", 1, 1)}
        # The callers may be asked before B, which alone knows that it was a denial.
        await site.shows("mesh", lambda view: _edges(view) == wanted)
        (denied,) = (await site.shows("denials", lambda view: view["denials"]))["denials"]
        assert (denied["outcome"], denied["count"]) == ("POLICY_DENIED", 1)
        assert f"allowed: {A}" in denied["detail"]
        assert denied["connection_id"] == line["connection_id"]


async def test_a_connection_is_explained_by_what_both_sides_recorded(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        line = await call(site.x)
        both = await site.shows("connections", lambda view: view["rows"] and len(view["rows"][0]["sides"]) == 2)
        (row,) = both["rows"]
        assert (row["id"], row["verdict"], row["outcome"]) == (line["connection_id"], "denied", "POLICY_DENIED")
        (story,) = (await site.view(f"story?id={row['id']}"))["connections"]
        assert "  alert:   unknown_ca, sent by the server, which arrived" in story["story"]
        assert (story["caller"]["outcome"], story["server"]["outcome"]) == ("HANDSHAKE_FAILED", "POLICY_DENIED")
        missing = await site.get("/api/story?id=0123456789abcdef")
        assert missing.status == 404


async def test_a_live_connection_is_shown_until_it_ends(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        async with connected(site.a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            view = await site.shows("connections?state=live", lambda view: view["rows"] and view["rows"][0]["source"])
            assert [(one["source"], one["destination"], one["verdict"]) for one in view["rows"]] == [
                (str(A), str(B), "live")
            ]
            streams[1].write_eof()
            await streams[0].read()
        await site.shows("connections?state=live", lambda view: not view["rows"])
        ended = await site.shows("connections?state=ended", lambda view: view["rows"])
        assert ended["rows"][0]["outcome"] == "OK"


async def test_each_identity_leads_up_to_a_root_that_all_hold(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        found = await site.shows("identities", lambda view: len(view["identities"]) == 3)
        assert {one["spiffe_id"] for one in found["identities"]} == {str(A), str(B), str(OTHER)}
        assert {one["path"][-1]["role"] for one in found["identities"]} == {"root"}
        trust = await site.view("trust")
        assert all(one["agreed"] for one in trust["trust_domains"])
        assert trust["server"] is None


async def test_a_handshake_is_shown_message_by_message(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        line = await call(site.a)
        view = await site.shows(f"learn?id={line['connection_id']}", lambda view: view["shown"])
        assert view["shown"]["connection_id"] == line["connection_id"]
        messages = view["shown"]["messages"]
        assert [(one["sender"], one["name"]) for one in messages] == [
            ("client", "ClientHello"),
            ("server", "ServerHello"),
            ("server", "EncryptedExtensions"),
            ("server", "CertificateRequest"),
            ("server", "Certificate"),
            ("server", "CertificateVerify"),
            ("server", "Finished"),
            ("client", "Certificate"),
            ("client", "CertificateVerify"),
            ("client", "Finished"),
        ]
        assert all(one["proves"] for one in messages)
        fields = [dict(one["fields"]) for one in messages]
        assert fields[0]["random"].startswith(line["connection_id"])
        assert fields[4]["leaf"].startswith(f"{B}, serial ")
        assert fields[7]["leaf"].startswith(f"{A}, serial ")
        # The names of issuers are as in every other message.
        assert fields[4]["issuer"].startswith("serialNumber=")


async def test_a_refused_handshake_ends_with_the_alert(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        await call(site.x)
        view = await site.shows("learn", lambda view: view["shown"] and view["shown"]["messages"][-1]["alert"])
        last = view["shown"]["messages"][-1]
        assert (last["sender"], last["name"]) == ("server", "Alert: unknown_ca")
        assert not view["shown"]["finished"]


async def test_a_process_that_does_not_answer_is_shown_so_and_breaks_nothing(tmp_path: Path) -> None:
    gone = tmp_path / "gone.sock"
    async with a_site(tmp_path, more=[gone]) as site:
        await call(site.a)
        view = await site.shows(
            "processes", lambda view: all(one["error"] != "not asked yet" for one in view["processes"])
        )
        errors = {one["address"]: one["error"] for one in view["processes"] if one["error"]}
        assert list(errors) == [str(gone)]
        assert "nothing answers there: No such file or directory" in errors[str(gone)]
        await site.shows("mesh", lambda view: view["edges"])


async def test_a_server_that_does_not_answer_is_shown_so_and_breaks_nothing(tmp_path: Path) -> None:
    async with a_site(tmp_path, server=tmp_path / "none.sock") as site:
        view = await site.shows("trust", lambda view: view["server"])
        assert str(tmp_path / "none.sock") in view["server"]["error"]
        await site.shows("trust", lambda view: view["trust_domains"])


@pytest.mark.parametrize(
    "record",
    [
        b'{"kind": ["sidecar"]}',
        b'{"kind": "sidecar", "ready": true, "live": [], "edges": [{"source_id": 7}]}',
        b'{"kind": "sidecar", "ready": true, "live": [{"number": "first"}]}',
        b'{"kind": "sidecar", "ready": true, "live": [], "svids": "none"}',
        b'{"kind": "agent", "ready": true, "entries": {"a": 1}}',
        b'{"kind": "sidecar", "ready": true, "live": [], "svids": [{"spiffe_id": "spiffe://t/x", "serial": "1",'
        b' "not_before": "9999-12-31T23:59:59Z", "not_after": "9999-12-31T23:59:59Z"}]}',  # no date comes after it
    ],
)
async def test_a_process_that_answers_nonsense_is_shown_so_and_breaks_nothing(tmp_path: Path, record: bytes) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + record)
        writer.close()

    odd = tmp_path / "odd.sock"
    async with await asyncio.start_unix_server(nonsense, str(odd)), a_site(tmp_path, more=[odd]) as site:
        await call(site.a)
        view = await site.shows(
            "processes", lambda view: all(one["error"] != "not asked yet" for one in view["processes"])
        )
        errors = {one["address"]: one["error"] for one in view["processes"] if one["error"]}
        assert list(errors) == [str(odd)]
        assert "wanted an answer of meshtls, got something else" in errors[str(odd)]
        await site.shows("mesh", lambda view: view["edges"])
        for name in ("identities", "connections", "denials", "policies", "trust", "learn"):
            await site.view(name)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine large answers take long: they are waited for, and no pause many times as long follows."""
    monkeypatch.setattr(asking, "_SECONDS", SECONDS)
    monkeypatch.setattr(collect, "_PAUSES", 0.0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("path", ["/server_info", "/connections", "/tap"])
async def test_a_process_whose_answer_is_too_large_is_shown_so_and_breaks_nothing(tmp_path: Path, path: str) -> None:
    large = tmp_path / "large.sock"
    bulk = b'{"event": "ended", "bulk": "' + b"x" * (17 << 20)
    pages = {
        "/server_info": b'{"kind": "sidecar"}',
        "/connections": b'{"live": [], "ended": []}',
        "/ready": b'{"ready": true}',
        path: bulk,
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode().partition("?")[0]
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + pages.get(asked, b"{}"))
        writer.close()

    async with await asyncio.start_unix_server(answer, str(large)), a_site(tmp_path, more=[large]) as site:
        await call(site.a)
        wanted = "wanted an event of at most 262144 bytes"
        if path != "/tap":
            wanted = "wanted an answer of at most 16777216 bytes; /connections can be asked for fewer, by limit=1000"

        def told(view: Any) -> bool:
            (one,) = [one for one in view["processes"] if one["address"] == str(large)]
            return f"{large}: {wanted}" in (one["error"], one["untold"])

        await site.shows("processes", told)
        await site.shows("mesh", lambda view: view["edges"])


@pytest.mark.usefixtures("patient")
async def test_pages_that_are_too_large_together_are_not_kept(tmp_path: Path) -> None:
    large = tmp_path / "large.sock"
    edge = dict.fromkeys(("connections", "allowed", "denied", "failed", "mutual_tls", "requests", "failed_requests"), 1)
    edge |= dict.fromkeys(("request_ms", "bytes_in", "bytes_out", "connections_per_second", "requests_per_second"), 1)
    edges = [{**edge, "reporter": "source", "source_id": f"{n}" * 300, "destination_id": "b"} for n in range(9)] * 1000
    entries = [{"entry": "e", "selectors": ["x" * 1500]}] * 9000
    pages: dict[str, Any] = {
        "/server_info": {"kind": "sidecar", "name": "large"},
        "/ready": {"ready": True},
        "/graph": {"edges": edges},
        "/policies": {"entries": entries},
        "/connections": {"live": [], "ended": []},
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode().partition("?")[0]
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(pages.get(asked, {})).encode())
        writer.close()

    async with await asyncio.start_unix_server(answer, str(large)), a_site(tmp_path, more=[large]) as site:

        def error(view: Any) -> str:
            return str(next(one["error"] for one in view["processes"] if one["address"] == str(large)))

        await site.shows("processes", lambda view: "wanted pages of at most 16777216 bytes together" in error(view))
        assert site.collector.model.processes[str(large)].pages == {}
        pages["/policies"] = {"entries": []}
        await site.shows("processes", lambda view: error(view) == "")


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/static/app.css", "/api/mesh", "/api/nothing", "/elsewhere"])
async def test_each_answer_has_the_policy_for_content(tmp_path: Path, path: str) -> None:
    async with a_site(tmp_path) as site:
        got = await site.get(path)
        assert f"content-security-policy: {POLICY}\r\n" in f"{got.head}\r\n"
        for field in ("x-content-type-options: nosniff", "x-frame-options: DENY", "cache-control: no-store"):
            assert field in got.head
        assert "set-cookie" not in got.head.lower()


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/guard.py",
        "/static/",
        "/static/nothing.js",
        "/api/",
        "/x",
    ],
)
async def test_nothing_but_its_own_files_is_served(tmp_path: Path, path: str) -> None:
    async with a_site(tmp_path) as site:
        assert (await site.get(path)).status == 404


async def test_a_request_of_another_site_is_refused(tmp_path: Path) -> None:
    async with a_site(tmp_path, token=TOKEN) as site:
        assert (await site.get("/api/mesh")).status == 200
        for fields in (
            {"Host": f"evil.example:{site.address.port}"},
            {"Origin": "http://evil.example"},
            {"Sec_Fetch_Site": "cross-site"},
        ):
            for path in ("/", "/api/mesh", "/api/changes"):
                assert (await site.get(path, **fields)).status == 403, (path, fields)


async def act(site: Site, record: object, **fields: str) -> Got:
    named = {"Authorization": f"Bearer {TOKEN}", "Content_Type": "application/json"} | fields
    named = {name: value for name, value in named.items() if value}
    return await ask(site.address, "/api/act", "POST", json.dumps(record), Connection="close", **named)


def level(site: Site, value: str = "DEBUG") -> dict[str, str]:
    return {
        "process": site.collector.model.processes[next(iter(site.collector.model.processes))].address,
        "act": "level",
        "value": value,
    }


async def test_nothing_can_be_changed_without_a_token(tmp_path: Path) -> None:
    before = logging.getLogger("meshtls").level
    async with a_site(tmp_path) as site:
        got = await act(site, level(site))
        assert (got.status, got.json["error"]) == (
            403,
            "this dashboard is for reading; start it with --token-file to change something",
        )
        assert (await site.view("about"))["may_act"] is False
    assert logging.getLogger("meshtls").level == before


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": "text/plain"}, 415),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
    ],
)
async def test_an_act_needs_the_token_and_its_own_page(tmp_path: Path, fields: dict[str, str], status: int) -> None:
    async with a_site(tmp_path, token=TOKEN) as site:
        assert (await act(site, {"process": str(tmp_path / "b.sock"), "act": "drain"}, **fields)).status == status
        assert site.b.sidecar.inbound[0].state.name == "ACCEPTING"


@pytest.mark.parametrize(
    ("record", "status", "why"),
    [
        ({"process": "nobody", "act": "drain"}, 404, "nobody: the dashboard was not told of this process"),
        ({"process": "b", "act": "stop"}, 400, "act: wanted drain or level"),
        ({"process": "b", "act": "level", "value": "LOUD"}, 400, "wanted DEBUG, INFO, WARN or ERROR, got 'LOUD'"),
        ({"process": "b", "act": "drain", "path": "/x"}, 400, "unknown field"),
        (["drain"], 400, "Expected `object`"),
    ],
)
async def test_a_wrong_act_says_what_was_wanted(tmp_path: Path, record: Any, status: int, why: str) -> None:
    if isinstance(record, dict) and record["process"] == "b":
        record = {**record, "process": str(tmp_path / "b.sock")}
    async with a_site(tmp_path, token=TOKEN) as site:
        got = await act(site, record)
        assert (got.status, why in got.json["error"]) == (status, True), got.body


async def test_with_the_token_a_process_is_drained_and_the_token_is_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_site(tmp_path, token=TOKEN) as site:
        got = await act(site, {"process": str(tmp_path / "b.sock"), "act": "drain"})
        assert (got.status, got.json["state"]) == (200, "draining")
        await until(lambda: site.b.sidecar.inbound[0].state.name == "CLOSED")
        await act(site, {"process": str(tmp_path / "b.sock"), "act": "drain"}, Authorization=f"Bearer {TOKEN}x")
        for name in ("mesh", "processes", "about"):
            assert TOKEN not in (await site.get(f"/api/{name}")).body
    assert "dashboard: " in caplog.text
    assert TOKEN not in caplog.text


async def test_changes_are_told_as_they_happen(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        await site.shows("processes", lambda view: not any(one["error"] for one in view["processes"]))
        reader, writer = await asyncio.open_connection(site.address.host, site.address.port)
        writer.write(f"GET /api/changes HTTP/1.1\r\nHost: {site.address}\r\n\r\n".encode())
        async with asyncio.timeout(SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"content-type: text/event-stream" in head
            before = await versions(reader)
            await call(site.x)
            while (await versions(reader))["denials"] == before["denials"]:
                pass
        writer.close()


async def versions(reader: asyncio.StreamReader) -> dict[str, int]:
    while not (line := await reader.readline()).startswith(b"data: "):
        assert line
    found: dict[str, int] = json.loads(line[6:])
    return found


async def test_streams_are_bounded(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site, asyncio.timeout(SECONDS):
        open_streams = []
        for _ in range(MOST_STREAMS):
            reader, writer = await asyncio.open_connection(site.address.host, site.address.port)
            writer.write(f"GET /api/changes HTTP/1.1\r\nHost: {site.address}\r\n\r\n".encode())
            await reader.readuntil(b"data: ")
            open_streams.append(writer)
        assert (await site.get("/api/changes")).status == 503
        assert (await site.get("/api/mesh")).status == 200
        for writer in open_streams:
            writer.close()
