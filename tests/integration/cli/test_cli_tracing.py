"""Traces as an operator turns them on: ``meshtls sidecar run`` and ``validate`` with a section ``tracing``."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from pathlib import Path

from tests.integration.cli.processes import meshtls, started, two_sidecars
from tests.integration.cli.test_cli_processes import WEB, write_ca
from tests.integration.cli.test_cli_workers import call
from tests.support.otlp import a_receiver


async def test_the_processes_of_two_sidecars_send_their_spans_of_one_call_and_the_last_ones_as_they_stop(
    tmp_path: Path,
) -> None:
    async with a_receiver() as receiver:
        ports = two_sidecars(
            tmp_path,
            ids=(WEB, WEB),
            extra=f"identity: {{workload_api: unix://{tmp_path / 'ca.sock'}}}\n"
            f"tracing: {{otlp: '{receiver.endpoint}', sample: 1}}\n",
        )
        write_ca(tmp_path, os.getuid())
        with ExitStack() as stack:

            def serve_and_call() -> None:
                ca = stack.enter_context(started("ca", "serve", "--config", tmp_path / "ca.yaml"))
                ca.line("serving: CA of example.org on ")
                app = stack.enter_context(started("app", "--listen", f"127.0.0.1:{ports['b_app']}", "--name", "b"))
                app.line("app b listens on", "stdout")
                a = stack.enter_context(started("sidecar", "run", "--config", tmp_path / "a.yaml"))
                b = stack.enter_context(started("sidecar", "run", "--workers", "2", "--config", tmp_path / "b.yaml"))
                a.line("serving: sidecar a is ")
                b.line("serving: sidecar b is ")
                b.line("serving: sidecar b is ")
                assert call(ports["a_out"]) == b"HTTP/1.1 200 OK\r\n"
                assert (a.stop(), b.stop()) == (0, 0)

            await asyncio.to_thread(serve_and_call)
            (outbound,), (inbound,) = receiver.named("outbound connection"), receiver.named("inbound connection")
    assert (inbound.trace, inbound.parent) == (outbound.trace, outbound.span)
    assert (outbound.of["service.name"], inbound.of["service.name"]) == ("a", "b")


def test_validate_refuses_a_file_of_headers_that_others_can_read_and_takes_one_that_is_private(tmp_path: Path) -> None:
    headers = tmp_path / "headers"
    headers.write_text("authorization: Bearer hunter2\n")
    headers.chmod(0o644)
    two_sidecars(
        tmp_path, ids=(WEB, WEB), extra="tracing: {otlp: 'https://collector.example', headers_file: headers}\n"
    )
    refused = meshtls("sidecar", "validate", "--config", tmp_path / "a.yaml")
    headers.chmod(0o600)
    taken = meshtls("sidecar", "validate", "--config", tmp_path / "a.yaml")
    assert refused.returncode != 0
    assert f"{headers}: mode 0644 gives other users access to tokens; run chmod 600 {headers}" in refused.stderr
    assert taken.returncode == 0
    assert "hunter2" not in refused.stdout + refused.stderr + taken.stdout + taken.stderr
