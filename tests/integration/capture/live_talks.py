"""What runs in a network namespace of its own while ``meshtls capture`` captures there."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from meshtls.admin.keys import AdminKeys
from meshtls.capture.live.ring import BLOCK_BYTES, BLOCKS, opened_ring
from meshtls.policy.authorizer import authorize_any
from meshtls.sidecar.settings import InboundConfig, SidecarConfig
from meshtls.svid.context import ConstantSource
from meshtls.tls.rotating import client_context
from tests.integration.cli.processes import meshtls, started
from tests.integration.sidecar.mesh import ANYWHERE, A, B, Node, an_app, as_a, as_b, connected, echoed, running
from tests.support.tls_wire import contexts

REQUEST, RESPONSE = b"GET /what-was-asked HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nwhat was answered"
V4, V6 = "127.0.0.1", "::1"


def listener(host: str = V4) -> socket.socket:
    return socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def talk(
    at: socket.socket, made: tuple[ssl.SSLContext, ssl.SSLContext] | None = None, *, request: bytes = REQUEST
) -> None:
    """One connection: a request, an answer, and both ends close; with TLS if there are contexts."""

    def serve() -> None:
        accepted, _ = at.accept()
        with accepted if made is None else made[1].wrap_socket(accepted, server_side=True) as there:
            left = len(request)
            while left > 0 and (piece := there.recv(1 << 16)):
                left -= len(piece)
            there.sendall(RESPONSE)

    server = threading.Thread(target=serve)
    server.start()
    here = socket.create_connection(at.getsockname()[:2])
    with here if made is None else made[0].wrap_socket(here) as end:
        end.sendall(request)
        while end.recv(1 << 16):
            pass
    server.join()


def recorded(directory: Path, *options: str, talks: Callable[[], None], interface: str = "lo") -> None:
    """Record while ``talks`` runs, until SIGTERM; or until a limit, whose recording ends by itself."""
    command = ("capture", "record", "-i", interface, "--write", str(directory / "a.pcapng"), *options)
    with started(*command, "--output", "json") as process:
        process.line("capturing", "stdout")
        talks()
        code = process.popen.wait(60) if "--packets" in options or "--size" in options else process.stop()
        print(json.dumps({"code": code, **json.loads(process.line("captured", "stdout"))}))


def tls(directory: Path, version: str, interface: str = "lo") -> None:
    keylog = directory / "keys.log"
    made = contexts(directory, keylog, mutual=True, version=int(version))
    with closing(listener()) as at:
        recorded(directory, "--keylog", str(keylog), talks=lambda: talk(at, made), interface=interface)


def filtered(directory: Path) -> None:
    """Four connections over both versions of IP; the first and the third port are wanted."""
    with closing(listener(V4)) as a, closing(listener(V4)) as b, closing(listener(V6)) as c, closing(listener(V6)) as d:
        ports = [str(one.getsockname()[1]) for one in (a, b, c, d)]
        print(json.dumps(ports))

        def talks() -> None:
            for one in (a, b, c, d):
                talk(one)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.sendto(b"no TCP", (V4, int(ports[0])))

        recorded(directory, "--port", ports[0], "--port", ports[2], talks=talks)


def limited(directory: Path, option: str, value: str) -> None:
    with closing(listener()) as at:
        recorded(directory, option, value, talks=lambda: talk(at, request=bytes(1 << 20)))


def no_room(directory: Path) -> None:
    """The key log alone is larger than the file may be; and a recording of a port that nobody uses."""
    keylog, at = directory / "keys.log", listener()
    keylog.write_text(("CLIENT_RANDOM " + "ab" * 32 + " " + "cd" * 48 + "\n") * 100)
    with closing(at):
        port = str(at.getsockname()[1])
        options = (
            ("record", "--write", str(directory / "a.pcapng"), "--keylog", str(keylog), "--size", "4KiB"),
            ("record", "--write", str(directory / "b.pcapng"), "--port", port, "--seconds", "0.2"),
            ("live", "--port", port, "--seconds", "0.2"),
        )
        for verb, *more in options:
            done = meshtls("capture", verb, "-i", "lo", *more)
            print(json.dumps([done.returncode, done.stdout.splitlines()[-1], done.stderr]))


def late(directory: Path) -> None:
    """The first packet that is captured is larger than the file may be."""
    with closing(listener()) as at, closing(socket.create_connection(at.getsockname()[:2])) as here:
        accepted, _ = at.accept()
        with accepted, started(*_record(directory / "a.pcapng"), "--size", "4KiB") as process:
            process.line("capturing", "stdout")
            here.sendall(bytes(20_000))
            print(json.dumps([process.popen.wait(60), process.line("no packet")]))


def unwritable(directory: Path) -> None:
    """What has the name is a device; or the file may not grow, as on a full disk."""
    done = meshtls(*_record(Path("/dev/full")), "--seconds", "0.2")
    print(json.dumps([done.returncode, done.stdout, done.stderr]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    with closing(listener()) as at, started(*_record(directory / "a.pcapng")) as process:
        process.line("capturing", "stdout")
        for _ in range(40):  # small packets, which are buffered until they are written
            talk(at)
        print(json.dumps([process.popen.wait(60), process.line("meshtls: ")]))


def _record(file: Path) -> tuple[str | Path, ...]:
    return "capture", "record", "-i", "lo", "--write", file


def followed(directory: Path, sidecar: str) -> None:
    """Show what a sidecar's caller says while ``capture live`` has the sidecar's keys, or has none; and the events."""
    asyncio.run(_followed(directory, sidecar))


async def _followed(directory: Path, source: str) -> None:
    socket_path = directory / "admin.sock"
    async with an_app() as app:
        inbound = InboundConfig(listen=ANYWHERE, app=app.address, allow=(A,))
        keylog = directory / "keys.log"
        config = SidecarConfig(
            name="b",
            spiffe_id=B,
            inbound=(inbound,),
            admin=AdminKeys(socket=socket_path),
            insecure_keylog_file=None if source == "refused" else keylog,
        )
        async with running(config, ConstantSource(as_b())) as node:
            await asyncio.to_thread(_live, directory, node, "" if source == "none" else str(socket_path))


def _live(directory: Path, node: Node, sidecar: str) -> None:
    options = ("-i", "lo", "--port", str(node.inbound.port), *(("--sidecar", sidecar) if sidecar else ()))
    with started("capture", "live", *options, "--output", "json") as process:
        try:
            process.line("capturing", "stdout")
        except AssertionError:
            print(json.dumps({"code": process.popen.wait(60)}))
            return
        asyncio.run(_call(node))
        print(process.line('"opened"', "stdout"), end="")
        print(process.line('"ended"', "stdout"), end="")
        assert process.stop() == 0


async def _call(node: Node) -> None:
    context = client_context(ConstantSource(as_a()), authorize_any())
    async with connected(node.inbound, context) as streams:
        assert await echoed(streams, REQUEST) == REQUEST


def flooded(directory: Path) -> None:
    """Nobody takes the packets out of the ring, until there are more than it holds."""
    with closing(listener()) as at, opened_ring("lo", [at.getsockname()[1]]) as ring:
        talk(at, request=bytes(2 * BLOCK_BYTES * BLOCKS))
        kept = 0
        while packets := ring.packets(1000):
            kept += len(packets)
        received, dropped = ring.counts()
        print(json.dumps({"kept": kept, "received": received, "dropped": dropped}))


if __name__ == "__main__":
    {one.__name__: one for one in (tls, filtered, limited, no_room, late, unwritable, followed, flooded)}[sys.argv[1]](
        Path(sys.argv[2]), *sys.argv[3:]
    )
