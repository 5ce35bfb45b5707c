# Generated from envoy/secret.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from collections.abc import Iterable, Mapping

from google.protobuf.internal.containers import MessageMap, RepeatedCompositeFieldContainer
from google.protobuf.internal.containers import RepeatedScalarFieldContainer, ScalarMap
from google.protobuf.message import Message
import meshtls.proto.envoy.discovery_pb as envoy_discovery_pb
