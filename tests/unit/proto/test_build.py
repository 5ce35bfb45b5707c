"""The committed modules match the .proto files."""

from __future__ import annotations

import pytest


def test_the_committed_modules_match_the_proto_files() -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools, of the dev extra, compiles .proto files")
    from meshtls.proto.build import HERE, build

    generated = build()
    assert {path: path.read_text() for path in generated} == generated
    committed = {path for kind in ("*_pb.py", "*_pb.pyi", "*_grpc.py") for path in HERE.rglob(kind)}
    assert committed == set(generated)
