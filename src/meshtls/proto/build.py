"""``python -m meshtls.proto.build``: compile every .proto of this directory into the modules beside it.

For developers: it needs grpcio-tools. What it writes is committed, so an installed meshtls needs no compiler.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from meshtls.errors import ConfigError
from meshtls.proto.generate import grpc_module, message_module, message_types
from meshtls.proto.names import Names, module_of

__all__ = ["HERE", "build", "compile_protos"]

HERE = Path(__file__).parent


def compile_protos(directory: Path) -> FileDescriptorSet:
    """Every .proto under ``directory`` with all that it imports, dependencies first.

    Raises ImportError without grpcio-tools, ConfigError where the compiler refuses a file (it says why on stderr).
    """
    protoc = importlib.import_module("grpc_tools.protoc")
    protos = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch, as_file(files("grpc_tools") / "_proto") as google:
        out = Path(scratch) / "set.binpb"
        arguments = [f"-I{directory}", f"-I{google}", "--include_imports", f"--descriptor_set_out={out}", *protos]
        if protoc.main(["protoc", *arguments]) != 0:
            raise ConfigError(f"the .proto files in {directory} do not compile: see the compiler's words above")
        return FileDescriptorSet.FromString(out.read_bytes())


def build(directory: Path = HERE) -> Mapping[Path, str]:
    """The generated modules of ``directory``, as text by path; nothing is written. Raises as compile_protos."""
    compiled = compile_protos(directory).file
    names = Names.of(compiled)
    modules: dict[Path, str] = {}
    for file in compiled:
        if not file.name.startswith("google/protobuf/"):
            modules |= {directory / path: text for path, text in _modules(file, names)}
    return modules


def _modules(file: FileDescriptorProto, names: Names) -> list[tuple[str, str]]:
    messages, services = (module_of(file.name, kind).replace(".", "/") for kind in ("pb", "grpc"))
    modules = [(f"{messages}.py", message_module(file)), (f"{messages}.pyi", message_types(file, names))]
    if file.service:
        modules.append((f"{services}.py", grpc_module(file, names)))
    return modules


def main() -> None:
    for path, text in build().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(HERE)}")


if __name__ == "__main__":
    main()
