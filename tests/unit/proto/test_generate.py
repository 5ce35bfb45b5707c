"""The generated code for every supported feature of a .proto, loaded and used."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Cardinality

from meshtls.errors import ConfigError
from meshtls.proto.wellknown import Empty

PROTO = """
syntax = "proto3";
package generated.v1;
import "google/protobuf/struct.proto";
import "google/protobuf/empty.proto";
enum Color { NONE = 0; RED = 1; }
message Tree {
  enum Kind { OAK = 0; FIR = 3; }
  message Leaf { sint64 length = 1; }
  Kind kind = 1;
  Color color = 2;
  map<string, Tree> children = 3;
  repeated Leaf leaves = 4;
  oneof owner { string person = 5; bytes key = 6; }
  optional bool old = 7;
  google.protobuf.Struct notes = 8;
  map<uint32, double> heights = 9;
  Leaf crown = 10;
  repeated Kind kinds = 11;
}
service Forest {
  rpc Grow(google.protobuf.Empty) returns (Tree);
  rpc Watch(Tree.Leaf) returns (stream Tree);
  rpc Plant(stream Tree) returns (Tree);
  rpc Talk(stream Tree) returns (stream Tree);
}
"""


def generate(directory: Path) -> dict[str, str]:
    pytest.importorskip("grpc_tools", reason="grpcio-tools, of the dev extra, compiles .proto files")
    from meshtls.proto.build import build

    return {path.relative_to(directory).as_posix(): text for path, text in build(directory).items()}


def load(name: str, text: str) -> Any:
    module = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)  # noqa: S102  # the generator's own output is what is tested
    return module


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, str]:
    directory = tmp_path_factory.mktemp("protos")
    (directory / "forest.proto").write_text(PROTO)
    texts = generate(directory)
    with pytest.MonkeyPatch.context() as patch:
        messages = load("meshtls.proto.forest_pb", texts["forest_pb.py"])
        patch.setitem(sys.modules, "meshtls.proto.forest_pb", messages)
        services = load("meshtls.proto.forest_grpc", texts["forest_grpc.py"])
    return messages, services, texts["forest_pb.pyi"]


def test_messages_survive_the_wire_with_every_kind_of_field(modules: tuple[Any, Any, str]) -> None:
    forest, _, _ = modules
    tree = forest.Tree(kind=forest.Tree.FIR, color=forest.RED, person="me", old=False, heights={7: 1.5})
    tree.children["small"].crown.length = -2
    tree.leaves.add(length=3)
    tree.notes.update({"soil": ["wet", None]})
    back = forest.Tree.FromString(tree.SerializeToString())
    assert back == tree
    assert (back.kind, back.color, back.WhichOneof("owner"), back.HasField("old")) == (3, 1, "person", True)
    assert (back.children["small"].crown.length, back.leaves[0].length, back.heights[7]) == (-2, 3, 1.5)
    assert list(back.notes["soil"]) == ["wet", None]


def test_services_have_the_right_paths_and_cardinalities(modules: tuple[Any, Any, str]) -> None:
    forest, services, _ = modules

    async def handle(self: object, stream: object) -> None: ...

    base: type[Any] = services.ForestBase
    handlers = type("Forest", (base,), dict.fromkeys(("Grow", "Watch", "Plant", "Talk"), handle))().__mapping__()
    assert {path: (h.cardinality, h.request_type, h.reply_type) for path, h in handlers.items()} == {
        "/generated.v1.Forest/Grow": (Cardinality.UNARY_UNARY, Empty, forest.Tree),
        "/generated.v1.Forest/Watch": (Cardinality.UNARY_STREAM, forest.Tree.Leaf, forest.Tree),
        "/generated.v1.Forest/Plant": (Cardinality.STREAM_UNARY, forest.Tree, forest.Tree),
        "/generated.v1.Forest/Talk": (Cardinality.STREAM_STREAM, forest.Tree, forest.Tree),
    }


@pytest.mark.parametrize(
    "line",
    [
        "NONE: int",
        "    OAK: int",
        "    class Leaf(Message):",
        "    kind: int",
        "    person: str",
        "    key: bytes",
        "    old: bool",
        "    def children(self) -> MessageMap[str, Tree]: ...",
        "    def heights(self) -> ScalarMap[int, float]: ...",
        "    def leaves(self) -> RepeatedCompositeFieldContainer[Tree.Leaf]: ...",
        "    def kinds(self) -> RepeatedScalarFieldContainer[int]: ...",
        "    def notes(self) -> wellknown.Struct: ...",
        "    def crown(self) -> Tree.Leaf: ...",
    ],
)
def test_the_type_stub_has_the_line(modules: tuple[Any, Any, str], line: str) -> None:
    assert line in modules[2].splitlines()


def test_a_message_of_another_file_is_imported_by_its_module(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "base.proto").write_text('syntax = "proto3"; package far.v1; message Far {}')
    (tmp_path / "near.proto").write_text(
        'syntax = "proto3"; import "inner/base.proto"; message Near { far.v1.Far far = 1; }'
    )
    texts = generate(tmp_path)
    assert sorted(texts) == ["inner/base_pb.py", "inner/base_pb.pyi", "near_pb.py", "near_pb.pyi"]
    assert "import meshtls.proto.inner.base_pb as inner_base_pb" in texts["near_pb.py"].splitlines()
    assert "    def far(self) -> inner_base_pb.Far: ..." in texts["near_pb.pyi"].splitlines()


def test_a_proto_that_does_not_compile_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "bad.proto").write_text('syntax = "proto3"; message {}')
    with pytest.raises(ConfigError, match=r"the \.proto files in .* do not compile: see the compiler's words above"):
        generate(tmp_path)
