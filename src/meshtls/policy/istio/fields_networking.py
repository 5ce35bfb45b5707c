"""The fields of DestinationRule (networking.istio.io): the TLS part, and names for the rest. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from meshtls.config.document import Section
from meshtls.errors import RequestError
from meshtls.policy.istio.fields import Field, Shape, Support, Table, Value, last_of
from meshtls.policy.istio.fields_common import SELECTOR
from meshtls.policy.istio.fields_values import FLAG, LABEL_KEY, LABEL_VALUE, PORT_NUMBER, TEXT, one_of
from meshtls.policy.istio.model import ClientTls, ClientTlsMode, DestinationRule, Subset
from meshtls.scalars import shown

__all__ = ["DESTINATION_RULE"]

_Problems = Iterator[tuple[str, str]]
_Values = Mapping[str, Any]
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?|\*", re.ASCII)
_LONGEST_HOST = 253


def _host(text: str) -> str:
    if len(text) > _LONGEST_HOST or not _HOST.fullmatch(text):
        raise RequestError(f"wanted a host's name, or *.suffix, got {shown(text)}")
    return text


def _visible_everywhere(text: str) -> str:
    if text != "*":
        raise RequestError(f"wanted '*', got {shown(text)}: the rule would act in more namespaces than it says")
    return text


def _mode_fits(section: Section, values: _Values) -> _Problems:
    mode = values["mode"]
    if mode is ClientTlsMode.MUTUAL:
        for name, attribute in (("clientCertificate", "client_certificate"), ("privateKey", "private_key")):
            if attribute not in values:
                yield name, "wanted a file for MUTUAL, got none"
    if mode is ClientTlsMode.ISTIO_MUTUAL:
        for name in section.keys:
            if name not in ("mode", "insecureSkipVerify"):
                yield name, "wanted no other field for ISTIO_MUTUAL, which uses the workload's SVID"
    if values.get("insecure"):
        yield "insecureSkipVerify", "wanted false, got true: a server that is not verified is not dialled"


def _client_tls(place: object, insecure: bool = False, **values: Any) -> ClientTls:
    return ClientTls(**values)


_TLS = Table(
    "tls",
    (
        Field("mode", "DISABLE: plaintext. SIMPLE: the server's certificate is verified. MUTUAL: also ours is shown."
              " ISTIO_MUTUAL: with the workload's SVID, to the outbound's `peer`.", one_of(ClientTlsMode), Shape.ONE,
              "mode", required=True),
        Field("clientCertificate", "The certificate's file, for MUTUAL. Files are read again when they are replaced;"
              " relative paths are below the directory of the sidecar's file.", TEXT, Shape.ONE, "client_certificate"),
        Field("privateKey", "The key's file, for MUTUAL, without a password.", TEXT, Shape.ONE, "private_key"),
        Field("caCertificates", "The file of the authorities that verify the server, for SIMPLE and MUTUAL; without it,"
              " or with `system`, those of the system.", TEXT, Shape.ONE, "ca_certificates"),
        Field("subjectAltNames", "The server must have one of these DNS names, IP addresses, URIs or mail addresses;"
              " without them, the name in `sni`.", TEXT, Shape.LIST, "subject_alt_names"),
        Field("sni", "The server name that is asked for; without it, the outbound's `host`.", TEXT, Shape.ONE, "sni"),
        Field("insecureSkipVerify", "Only false: a server is always verified.", FLAG, Shape.ONE, "insecure"),
        Field("credentialName", "Kubernetes' secrets are not read here: name files.", support=Support.REFUSED),
        Field("caCrl", "Revocation lists of a destination are not supported.", support=Support.REFUSED),
    ),
    _client_tls,
    (_mode_fits,),
)  # fmt: skip

_TLS_FIELD = Field("tls", "How the destination is dialled.", _TLS, attribute="tls")
_LOAD = (
    Field("loadBalancer", "Load balancing.", support=Support.NOT_ENFORCED),
    Field("connectionPool", "Limits of connections.", support=Support.NOT_ENFORCED),
    Field("outlierDetection", "Ejection of failing hosts.", support=Support.NOT_ENFORCED),
)
_PORT_SETTINGS = Table(
    "portLevelSetting",
    (
        Field(
            "port",
            "The destination's port.",
            Table("port", (Field("number", "The port.", PORT_NUMBER, attribute="number", required=True),), last_of),
            attribute="port",
            required=True,
        ),
        _TLS_FIELD,
        *_LOAD,
    ),
    lambda place, port, tls=None: (port, tls),
)


def _ports_once(section: Section, values: _Values) -> _Problems:
    ports = [port for port, _ in values.get("ports", ())]
    if len(ports) > len(set(ports)):
        yield "portLevelSettings", "wanted each port once, got one again"


def _traffic(place: object, tls: ClientTls | None = None, ports: Any = ()) -> dict[str, Any]:
    return {"tls": tls, "ports": tuple((port, one) for port, one in ports if one is not None)}


_TRAFFIC = Field(
    "trafficPolicy",
    "How the destination is called.",
    Table(
        "trafficPolicy",
        (
            _TLS_FIELD,
            Field("portLevelSettings", "For single ports; they beat the rest.", _PORT_SETTINGS, Shape.LIST, "ports"),
            *_LOAD,
            Field("tunnel", "A tunnel through another proxy.", support=Support.NOT_ENFORCED),
            Field("proxyProtocol", "The PROXY protocol to the destination.", support=Support.NOT_ENFORCED),
            Field("retryBudget", "Limits of retries.", support=Support.NOT_ENFORCED),
        ),
        _traffic,
        (_ports_once,),
    ),
    attribute="traffic",
)
_SUBSET = Table(
    "subset",
    (
        Field("name", "The subset's name.", TEXT, attribute="name", required=True),
        Field("labels", "The labels of its endpoints.", LABEL_VALUE, Shape.MAP, "labels", key=LABEL_KEY),
        _TRAFFIC,
    ),
    lambda place, traffic=None, **values: Subset(**values, **(traffic or {})),
)


def _subsets_once(section: Section, values: _Values) -> _Problems:
    names = [one.name for one in values.get("subsets", ())]
    if len(names) > len(set(names)):
        yield "subsets", "wanted each subset's name once, got one again"


DESTINATION_RULE = Table(
    "DestinationRule",
    (
        Field("host", "The destination: a name, short ones in the rule's namespace, or `*.suffix`.",
              Value("a host or `*.suffix`", _host), Shape.ONE, "host", required=True),
        _TRAFFIC,
        Field("subsets", "Parts of the destination; they beat the rule's own `trafficPolicy`.", _SUBSET, Shape.LIST,
              "subsets"),
        Field("exportTo", "Only `*`, which is every namespace.", Value("`*`", _visible_everywhere), Shape.LIST,
              "export_to"),
        Field("workloadSelector", "The callers that the rule is for; without it, all.", SELECTOR.of, Shape.ONE,
              "selector"),
    ),
    lambda place, traffic=None, export_to=(), **values: partial(DestinationRule, **values, **(traffic or {})),
    (_subsets_once,),
)  # fmt: skip
