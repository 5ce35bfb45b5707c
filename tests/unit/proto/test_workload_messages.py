"""Our messages match those of other SPIFFE libraries on the wire, and coexist with theirs in one process."""

from __future__ import annotations

import subprocess
import sys

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from meshtls.proto import wellknown
from meshtls.proto import workload_pb as pb
from meshtls.proto.pool import POOL

OURS, THEIRS = "from meshtls.proto import workload_pb", "from spiffe import WorkloadApiClient"


@pytest.mark.parametrize("imports", [(OURS, THEIRS), (THEIRS, OURS)], ids=["ours first", "theirs first"])
@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_another_spiffe_library_in_the_same_process_does_not_collide(
    imports: tuple[str, str], implementation: str
) -> None:
    pytest.importorskip("spiffe", reason="the spiffe package, of the dev extra, is the other library")
    check = "assert workload_pb.X509SVIDRequest.DESCRIPTOR.full_name == 'X509SVIDRequest'"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*imports, check])],
        env={"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_message_field_and_method_is_numbered_and_typed_as_in_the_spiffe_package() -> None:
    theirs = pytest.importorskip("spiffe._proto.workload_pb2", reason="the spiffe package is the reference")
    assert _shape(FileDescriptorProto.FromString(POOL.FindFileByName("workload.proto").serialized_pb)) == _shape(
        FileDescriptorProto.FromString(theirs.DESCRIPTOR.serialized_pb)
    )


def test_claims_are_a_struct_of_our_own_pool() -> None:
    claims = wellknown.Struct()
    claims.update({"aud": ["db"], "exp": 12.0})
    message = pb.ValidateJWTSVIDResponse(spiffe_id="spiffe://example.org/web", claims=claims)
    back = pb.ValidateJWTSVIDResponse.FromString(message.SerializeToString())
    assert dict(back.claims.items())["exp"] == 12.0
    assert type(back.claims) is wellknown.Struct


def _shape(file: FileDescriptorProto) -> FileDescriptorProto:
    file.name = ""
    file.ClearField("source_code_info")
    for message in file.message_type:
        for holder in (message, *message.nested_type):
            for field in holder.field:
                field.ClearField("json_name")
    return file
