"""The protobuf messages and gRPC services that meshtls speaks, in a descriptor pool of its own.

The Workload API's messages have no package. In protobuf's default pool a second SPIFFE library of the same process
would define ``X509SVIDRequest`` again, and protobuf refuses that. So every message here lives in ``pool.POOL``.

To add a service: write ``<name>.proto`` beside this file (or in a sub-package), run ``python -m meshtls.proto.build``
(needs grpcio-tools, which is in the ``dev`` extra) and commit what it writes:

- ``<name>_pb.py`` and ``.pyi``: one class per message; an enum's values are plain ints, of the module or of the message
  that the enum stands in, and an enum field's type is ``int``;
- ``<name>_grpc.py``: ``<Service>Base`` for a grpclib server, ``<Service>Stub`` for a client.

A .proto imports another by its path from this directory (``import "workload.proto";``) and Google's well-known types by
their usual names. ``google.protobuf.Struct`` and the like are then the classes of ``meshtls.proto.wellknown``: those of
``google.protobuf.struct_pb2`` belong to the default pool and can't be put into a message of ours.
"""
