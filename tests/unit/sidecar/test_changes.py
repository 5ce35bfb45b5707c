"""What a new configuration changes for a running sidecar, in words, and what it leaves as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshtls.address import Address
from meshtls.admin.keys import AdminKeys
from meshtls.config.schema import describe
from meshtls.logs import LogFormat
from meshtls.sidecar.changes import Changes, in_force, summary
from meshtls.sidecar.crl_files import CrlKeys
from meshtls.sidecar.settings import (
    CaptureKeys,
    InboundConfig,
    Limits,
    Mode,
    OutboundConfig,
    SidecarConfig,
    SidecarFile,
    Workload,
)
from meshtls.sidecar.tracing.keys import OtlpEndpoint, TracingKeys
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.workload.address import parse_address

A, B = SpiffeId.parse("spiffe://example.org/a"), SpiffeId.parse("spiffe://example.org/b")
APP = Address("127.0.0.1", 8080)
IN = InboundConfig(listen=Address("127.0.0.1", 15006), app=APP, allow=(A,))
OUT = OutboundConfig(listen=Address("127.0.0.1", 15001), to=Address("b", 15006), peer=B)
TRACING = TracingKeys(otlp=OtlpEndpoint(False, APP))
CRLS = (CrlKeys(trust_domain=TrustDomain("partner.test"), files=(Path("partner.pem"),)),)
RUNNING = SidecarConfig(name="a", spiffe_id=A, inbound=(IN,), outbound=(OUT,))


@pytest.mark.parametrize(
    ("differing", "taken", "restart"),
    [
        ({}, (), ()),
        ({"inbound": (msgspec.structs.replace(IN, allow=()),)}, ("inbound 127.0.0.1:15006 (allow)",), ()),
        (
            {"inbound": (msgspec.structs.replace(IN, mode=Mode.PERMISSIVE, tunnel=True),)},
            ("inbound 127.0.0.1:15006 (mode, tunnel)",),
            (),
        ),
        (
            {"inbound": (msgspec.structs.replace(IN, listen=Address("127.0.0.1", 15007)),)},
            ("inbound 127.0.0.1:15007 (new)", "inbound 127.0.0.1:15006 (removed)"),
            (),
        ),
        ({"outbound": (msgspec.structs.replace(OUT, peer=A),)}, ("outbound 127.0.0.1:15001 (peer)",), ()),
        ({"outbound": ()}, ("outbound 127.0.0.1:15001 (removed)",), ()),
        ({"limits": Limits(drain=1.0, unproven=5)}, ("limits.unproven", "limits.drain"), ()),
        ({"workload": Workload(cluster="east")}, ("workload.cluster",), ()),
        ({"name": "b"}, (), ("name",)),
        (
            {
                "spiffe_id": B,
                "workload_api": parse_address("unix:///run/other.sock"),
                "health": APP,
                "workers": 2,
            },
            (),
            ("spiffe_id", "identity.workload_api", "health", "workers"),
        ),
    ],
)
def test_each_key_is_taken_over_or_needs_a_restart(
    differing: dict[str, Any], taken: tuple[str, ...], restart: tuple[str, ...]
) -> None:
    wanted = msgspec.structs.replace(RUNNING, **differing)
    assert summary(RUNNING, wanted) == Changes(taken, restart)
    now = in_force(RUNNING, wanted)
    assert summary(RUNNING, now) == Changes(taken, ())
    assert summary(now, wanted) == Changes((), restart)


def test_every_key_of_a_sidecar_is_one_or_the_other() -> None:
    live = {"inbound", "outbound", "workload", "limits", "log_level", "policies", "ext_authz", "request_auth"}
    told = {"notices", "policy_paths"}  # the reading's own words, and where it read
    others = {
        "name": "x",
        "spiffe_id": B,
        "workload_api": parse_address("unix:///x.sock"),
        "health": APP,
        "metrics": APP,
        "tracing": TRACING,
        "workers": 3,
        "crls": CRLS,
        "insecure_keylog_file": Path("keys.log"),
        "insecure_capture": CaptureKeys(file=Path("a.pcapng")),
        "admin": AdminKeys(socket=Path("/x.sock")),
        "log_format": LogFormat.JSON,
    }
    assert set(RUNNING.__struct_fields__) == live | told | set(others)
    assert summary(RUNNING, msgspec.structs.replace(RUNNING, log_level="ERROR")).taken == ("log_level",)
    for field, value in others.items():
        assert len(summary(RUNNING, msgspec.structs.replace(RUNNING, **{field: value})).restart) == 1


def test_the_reference_says_of_each_key_what_a_new_value_needs() -> None:
    top = {key.path: key.changes for key in describe(SidecarFile) if "." not in key.path}
    restart = summary(
        RUNNING,
        SidecarConfig(
            name="x",
            spiffe_id=B,
            workload_api=parse_address("unix:///x.sock"),
            health=APP,
            metrics=APP,
            tracing=TRACING,
            workers=3,
            admin=AdminKeys(socket=Path("/x.sock")),
            log_format=LogFormat.JSON,
            inbound=(IN,),
            crls=CRLS,
            insecure_keylog_file=Path("keys.log"),
            insecure_capture=CaptureKeys(file=Path("a.pcapng")),
        ),
    ).restart
    assert {key for key, need in top.items() if need == "restart"} == {key.partition(".")[0] for key in restart}
    assert {key for key, need in top.items() if need == "reload"} == {
        "inbound",
        "outbound",
        "workload",
        "limits",
        "policies",
        "labels",
        "namespace",
        "trust_domain_aliases",
        "root_namespace",
        "path_normalization",
        "ext_authz",
        "request_auth",
        "log_level",
    }
