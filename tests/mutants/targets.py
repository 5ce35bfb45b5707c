"""Which files are mutated, which tests must detect the mutants, and which mutants are equivalent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import meshtls

__all__ = ["EQUIVALENT", "PACKAGE", "TARGETS", "Target"]

PACKAGE = Path(meshtls.__file__).parent


@dataclass(frozen=True, slots=True)
class Target:
    """``tests`` run in this order until one fails: quick ones first."""

    file: str
    tests: tuple[str, ...]


_SIDECAR = tuple(
    f"tests/integration/sidecar/{name}.py"
    for name in (
        "test_who_gets_in",
        "test_strangers",
        "test_modes",
        "test_resumption",
        "test_reload",
        "test_alerts_arrive",
        "test_slow_handshakes",
        "test_withdrawal",
        "test_trust_changes",
        "test_reporting",
        "test_lifetimes",
        "tunnel/test_tunnel_path",
        "test_storm",
    )
)
_PROXY = ("tests/unit/wire/test_proxy_protocol.py", "tests/integration/sidecar/test_proxy_protocol.py")
_TLS = (
    "tests/unit/tls",
    "tests/unit/pytest_plugin",
    *(
        f"tests/integration/tls/{name}.py"
        for name in (
            "test_handshake",
            "test_refused_late",
            "test_resumption",
            "test_coarse_store",
            "test_streams",
            "test_strangers",
        )
    ),
    *(
        f"tests/integration/library/{name}.py"
        for name in ("test_context_settings", "test_listening_socket", "test_late_connect", "test_plaintext_client")
    ),
    "tests/integration/sidecar/test_resumption.py",
)

_HTTP1 = tuple(f"tests/unit/wire/http1/test_http1_{name}.py" for name in ("filter", "smuggling", "limits", "repeated"))
_REASSEMBLY = tuple(
    f"tests/unit/capture/test_{name}.py"
    for name in ("ends", "tcp", "first_sender", "delivery_model", "reassembly_memory", "packets")
)
_JUDGE = (
    "tests/unit/sidecar/test_request_judge.py",
    "tests/unit/sidecar/test_client_cert_header.py",
    *(f"tests/integration/sidecar/test_policy_{name}.py" for name in ("http", "services")),
)

_SVID = tuple(
    f"tests/unit/svid/test_{name}.py"
    for name in (
        "verify",
        "verify_input",
        "verify_signers",
        "verifier",
        "verifier_memory",
        "trust",
        "valid_until",
        "path",
        "leaf_rules",
        "presented",
        "keys",
        "svid_x509",
        "verify_mutations",
    )
)

_REVOCATION = tuple(
    f"tests/unit/{name}.py"
    for name in (
        "revocation/test_crl",
        "revocation/test_lists",
        "revocation/test_ocsp",
        "revocation/test_building",
        "workload/test_convert_crls",
        "svid/test_trust",
    )
)

_RPC = ("tests/unit/rpc", "tests/integration/rpc")
_AGENT = tuple(
    f"tests/integration/agent/{name}.py"
    for name in ("test_workload_api", "test_attestation", "test_digests", "test_signing_order", "test_sds")
)

_ISTIO = tuple(
    f"tests/unit/policy/istio/test_{name}.py"
    for name in ("keys", "index", "sharing", "clause_words", "semantics", "paths", "agreement")
)

TARGETS = (
    *(
        Target(f"policy/istio/{name}.py", _ISTIO)
        for name in (
            "clauses",
            "compile",
            "destination",
            "evaluate",
            "facts",
            "index",
            "match",
            "modes",
            "paths",
            "rules",
            "scope",
        )
    ),
    Target("policy/authorizer.py", ("tests/unit/policy",)),
    Target("policy/decision.py", ("tests/unit/policy",)),
    Target("policy/istio/fields_values.py", ("tests/unit/policy/istio/test_parse.py",)),
    Target("bundle.py", ("tests/unit/test_bundle.py",)),
    Target("server/access.py", ("tests/unit/server/test_access.py", "tests/unit/server/test_authenticator.py")),
    Target("server/operations/permission.py", ("tests/integration/server/test_operations.py",)),
    Target("svid/jwt.py", ("tests/unit/svid/test_jwt.py",)),
    Target("svid/jwt_format.py", ("tests/unit/svid/test_jwt.py",)),
    Target("svid/verify.py", (*_SVID, "tests/unit/tls/test_error_copies.py")),
    Target("svid/trust.py", _SVID),
    Target("svid/revoked.py", ("tests/unit/svid/test_trust.py", *_REVOCATION)),
    Target("revocation/crl.py", _REVOCATION),
    Target("revocation/lists.py", ("tests/unit/revocation/test_lists.py", *_REVOCATION)),
    Target("revocation/ocsp.py", ("tests/unit/revocation/test_ocsp.py",)),
    Target("svid/verifier.py", (*_SVID, *_REVOCATION)),
    Target("svid/path.py", _SVID),
    Target("svid/policies.py", ("tests/unit/svid/test_policies.py", *_SVID)),
    Target("svid/name_constraints.py", ("tests/unit/svid/test_name_constraints.py", *_SVID)),
    Target("svid/leaf_rules.py", _SVID),
    Target("svid/presented.py", _SVID),
    Target("svid/keys.py", _SVID),
    Target("svid/x509.py", _SVID),
    Target("svid/der.py", ("tests/unit/svid/test_der.py",)),
    Target("sidecar/gate.py", ("tests/unit/sidecar/test_gate.py", *_SIDECAR)),
    Target("sidecar/registry.py", ("tests/unit/sidecar/test_registry.py", *_SIDECAR)),
    Target("sidecar/inbound.py", _SIDECAR),
    Target("sidecar/handshake.py", ("tests/unit/sidecar/test_scheduler.py", *_SIDECAR)),
    Target("wire/tls/first.py", ("tests/unit/wire/test_tls_first_bytes.py",)),
    Target(
        "wire/tls/glances.py",
        (
            "tests/unit/wire/test_tls_certificates.py",
            "tests/unit/wire/test_tls_server_name.py",
            "tests/unit/wire/test_client_hello.py",
        ),
    ),
    Target("wire/tls/records.py", ("tests/unit/wire/tls/test_tls_records.py",)),
    Target("wire/tls/assembling.py", ("tests/unit/wire/tls/test_tls_records.py",)),
    *(
        Target(f"wire/tls/{name}.py", tuple(f"tests/unit/wire/tls/test_tls_{test}.py" for test in tests))
        for name, tests in (
            ("messages", ("messages", "extensions")),
            ("extensions", ("extensions", "messages")),
            ("reading", ("messages", "extensions", "payloads", "explained")),
        )
    ),
    *(Target(f"wire/http1/{name}.py", _HTTP1) for name in ("chunked", "fields", "request", "writing", "filter")),
    Target("wire/http2/filter.py", ("tests/unit/wire/http2",)),
    Target("sidecar/http/judge.py", _JUDGE),
    *(
        Target(f"capture/{name}.py", _REASSEMBLY)
        for name in ("sequence", "ends", "reopening", "first_sender", "segments", "fragments", "tcp")
    ),
    Target("wire/xff.py", ("tests/unit/wire/test_xff.py",)),
    Target("wire/crc32c.py", ("tests/unit/wire/test_crc32c.py",)),
    Target("wire/proxy_protocol.py", ("tests/unit/wire/test_proxy_protocol_reading.py", *_PROXY)),
    Target("sidecar/proxied.py", ("tests/integration/sidecar/test_source_addresses.py", *_PROXY)),
    Target("tls/origination.py", ("tests/integration/sidecar/test_tls_origination.py",)),
    Target("agent/caller_views.py", ("tests/unit/agent/test_caller_views.py", *_AGENT)),
    Target("rpc/admission.py", _RPC),
    Target("budget.py", _RPC),
    Target("counted_log.py", ("tests/unit/test_counted_log.py",)),
    Target("rpc/shedding.py", _RPC),
    Target("rpc/turns.py", _RPC),
    Target(
        "tls/handshake_budget.py",
        (
            "tests/unit/tls/test_handshake_budget.py",
            "tests/integration/tls/test_strangers.py",
            "tests/integration/tls/test_resumption.py",
        ),
    ),
    Target("tls/unproven.py", ("tests/unit/tls/test_unproven.py", "tests/integration/sidecar/test_strangers.py")),
    Target("tls/verifying.py", _TLS),
    Target("tls/context.py", _TLS),
)

#: By file and name, why no test can distinguish the mutant from the code.
EQUIVALENT: Mapping[str, Mapping[str, str]] = {
    "svid/verifier.py": {
        "PeerVerifier._remember: the boundary of `len(self._shared) >= self._size`": (
            "one shared copy more: what is remembered, and for how long, is the same"
        ),
    },
    "svid/presented.py": {
        "read_presented: False for True": "there is one outline for each certificate, so the two are of one length",
    },
    "svid/policies.py": {
        "policy_violation: the boundary of `explicit_policy <= 0` #2": (
            "it leaves off later: once no policy is valid none becomes so again, and the last line says the same"
        ),
    },
    "capture/segments.py": {
        "Run.differs: the boundary of `chunks[at].offset < end`": "a chunk at the end has no byte to compare",
        "Run.differs: the boundary of `low < high`": "where the two are equal, no bytes are compared",
        "Runs.beginning: the boundary of `len(found) >= size`": "of the next chunk no byte is taken",
    },
    "wire/tls/glances.py": {
        "_extension: the boundary of `at < end`": "after the last extension the message ends: nothing is found",
    },
    "wire/tls/assembling.py": {
        "MessageAssembler.__init__: without `self._need = 0`": "it is set before it is read",
        "MessageAssembler.feed: the boundary of `at < size`": "nothing is left, and nothing is kept of it",
        "MessageAssembler.feed: without `self._need = need`": "the same messages, with more copies of a long one",
    },
    "wire/tls/records.py": {
        "RecordReader.__init__: without `self._need = 0`": "it is set before it is read",
        "RecordReader.__init__: without `self._header = (0, 0, 0, 0)`": "it is set before it is read",
    },
    "wire/http1/chunked.py": {
        "ChunkedBody.feed: the boundary of `remaining > 0`": "what is left of a chunk is never 0, but -2 or None",
        "ChunkedBody._feed_trailers: the boundary of `end < 0`": "a section that begins with its end is over before",
    },
    "wire/http1/fields.py": {
        "check_partial: the boundary of `len(section) > first_line`": (
            "where the two are equal, the first line is not beyond its limit, and the next condition says so"
        ),
    },
    "wire/http1/writing.py": {
        "request_bytes: without `head.written_for = request`": "the same bytes are made again",
    },
    "sidecar/inbound.py": {
        "Inbound._serve_tunnel: None for Stage.SESSION in `connection.reach(Stage.SESSION)`": (
            "a stage only tells one group of connections from another, and None does so as well"
        ),
    },
    "sidecar/handshake.py": {
        "drop_dialled: without `connection.dialled = None`": (
            "the socket is closed already, and to close it again does nothing"
        ),
        "server_handshake: None for Stage.QUEUED in `connection.reach(Stage.QUEUED)`": (
            "a stage only tells one group of connections from another, and None does so as well"
        ),
        "server_handshake: None for Stage.HANDSHAKE in `connection.reach(Stage.HANDSHAKE)`": (
            "a stage only tells one group of connections from another, and None does so as well"
        ),
    },
    "tls/verifying.py": {
        "_ChecksPeer._accept_peer: without `self._checked_early = None`": (
            "it frees memory: once there is a peer the early verdict is not looked at"
        ),
        "_ChecksPeer._accept_peer: without `self.context = _QUIET`": (
            "it saves the callback for each later message, of which none is a Certificate"
        ),
        "VerifyingSSLObject._step_within_allowance: the boundary of `incoming.pending > self.allowance`": (
            "where the two are equal nothing is held back, and the same bytes are written again"
        ),
    },
    "tls/context.py": {
        "harden: the boundary of `ssl.OPENSSL_VERSION_INFO >= _COMPRESSES_SINCE`": (
            "a library's version has five numbers, and so is never equal to one of two"
        ),
    },
    "budget.py": {
        "Budget.set_rate: without `self.left = min(self.left, self.most)`": (
            "whatever looks at what is left fills up first, and that has the same bound"
        ),
    },
    "counted_log.py": {
        "CountedLog.flush: without `del self._keys[key]`": (
            "a key whose ten seconds are over is told at once, whether it is listed or not, and is dropped first"
        ),
    },
}
