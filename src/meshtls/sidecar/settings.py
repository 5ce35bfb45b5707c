"""A sidecar's configuration as frozen structs. Their fields declare the keys of its file, which ``config`` reads."""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from meshtls.address import Address
from meshtls.admin.keys import AdminKeys
from meshtls.config.keys import (
    ADDRESS,
    COUNT,
    FLAG,
    LOG_LEVEL,
    PATH,
    SECONDS,
    TEXT,
    TRUST_DOMAIN,
    WORKLOAD_ID,
    Key,
    Value,
    choice,
    number,
    size_between,
)
from meshtls.config.reading import Found, Rule, RuleProblems
from meshtls.errors import ConfigError, RequestError
from meshtls.ext_authz.settings import ExtAuthzProvider
from meshtls.logs import LogFormat
from meshtls.observe.metrics.keys import MetricsKeys
from meshtls.observe.process_name import ProcessKind, ProcessName
from meshtls.policy.istio.model import ROOT_NAMESPACE, Normalization
from meshtls.request_auth.settings import KeySetSettings
from meshtls.scalars import shown
from meshtls.sidecar.crl_files import CrlKeys
from meshtls.sidecar.policies import PolicySet
from meshtls.sidecar.tracing.keys import TracingKeys
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.tls.origination import Origination
from meshtls.workload.address import Address as WorkloadAddress
from meshtls.workload.address import parse_address

__all__ = [
    "MOST_WORKERS",
    "CaptureKeys",
    "ForwardClientCert",
    "HttpKeys",
    "InboundConfig",
    "KeyExchange",
    "Limits",
    "Mode",
    "OutboundConfig",
    "Protocol",
    "SidecarConfig",
    "SidecarFile",
    "TlsMinimum",
    "Workload",
    "leads_back",
]

#: More than any machine has; a higher number is a mistake.
MOST_WORKERS = 1024
_MOST_WARM = 10_000
_MOST_STREAMS = 100_000
#: The keys of addresses that a sidecar binds.
_LISTENING = ("inbound.listen", "outbound.listen", "health", "metrics.listen")
_LONGEST_LABEL = 253  # that of a name in Kubernetes
_MOST_PROXIES = 100
_WINDOWS_IN_MEMORY = 4
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared with, never bound
_LOOPBACK = ("127.0.0.1", "::1")


def leads_back(target: Address, listen: Address) -> bool:
    """Whether what is dialled at ``target`` is this listener itself, as far as their texts say."""
    if not listen.port or target.port != listen.port:
        return False
    if listen.host in _EVERYWHERE:
        return target.host in ("localhost", "::1", *_EVERYWHERE) or target.host.startswith("127.")
    pair = {target.host, listen.host}
    return len(pair) == 1 or ("localhost" in pair and not pair.isdisjoint(_LOOPBACK))


class Mode(Enum):
    """What an inbound listener accepts."""

    STRICT = "STRICT"
    """Mutual TLS only."""
    PERMISSIVE = "PERMISSIVE"
    """Mutual TLS, and plaintext from clients without TLS: for a migration."""
    DISABLE = "DISABLE"
    """Plaintext only; TLS of the app's own is relayed like anything else."""


class Protocol(Enum):
    """How an inbound listener reads the application's bytes."""

    TCP = "tcp"
    """They are relayed unread."""
    HTTP = "http"
    """HTTP/1.1 and HTTP/2; anything else is refused."""
    AUTO = "auto"
    """As HTTP where the first bytes are HTTP's, else unread."""


class ForwardClientCert(Enum):
    """What is done with the header x-forwarded-client-cert, as in Envoy's ForwardClientCertDetails."""

    SANITIZE = "sanitize"
    FORWARD_ONLY = "forward_only"
    APPEND_FORWARD = "append_forward"
    SANITIZE_SET = "sanitize_set"
    ALWAYS_FORWARD_ONLY = "always_forward_only"


class CertDetail(Enum):
    """Optional parts of that header, beside By, Hash and URI."""

    CERT = "cert"
    CHAIN = "chain"


class TlsMinimum(Enum):
    """The minimum TLS version of a listener."""

    V1_2 = "1.2"
    V1_3 = "1.3"


class KeyExchange(Enum):
    """The key exchange group of a listener. OpenSSL's own choice is the post-quantum hybrid, if it has that."""

    LIBRARY = "library"
    X25519 = "X25519"
    P256 = "P-256"
    P384 = "P-384"


def _workload_api(text: str) -> WorkloadAddress:
    try:
        return parse_address(text)
    except ConfigError as error:
        raise RequestError(str(error)) from error  # the reading adds file, line and key


def _label(text: str) -> str:
    if not 0 < len(text) <= _LONGEST_LABEL:
        raise RequestError(f"wanted 1 to {_LONGEST_LABEL} characters, got {shown(text)}")
    return text


def _cidr(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise RequestError(
            f"wanted a block of addresses such as 10.0.0.0/8 or 2001:db8::/32, got {shown(text)}"
        ) from error


_CIDR: Value[IPv4Network | IPv6Network] = Value("block of addresses", _cidr, {"type": "string", "minLength": 1})
_LABEL: Value[str] = Value("text", _label, {"type": "string", "minLength": 1, "maxLength": _LONGEST_LABEL})
_WORKLOAD_API: Value[WorkloadAddress] = Value(
    "unix:///path or tcp://IP:port", _workload_api, {"type": "string", "pattern": "^[A-Za-z]+:"}
)
#: A label's value may be empty (Kubernetes, labels and selectors).
_LABEL_VALUE: Value[str] = Value("text", str, {"type": "string"})
_TLS_MINIMUM, _KEY_EXCHANGE = choice(TlsMinimum), choice(KeyExchange)


def _app_is_not_its_own_listener(listen: Address, app: Address) -> RuleProblems:
    if leads_back(app, listen):
        yield "app", f"wanted another address than its own listen, got {app}: a connection would not end"


_OF_PLAINTEXT = (
    "listen",
    "app",
    "mode",
    "protocol",
    "http",
    "proxy_protocol",
    "proxy_protocol_from",
    "num_trusted_proxies",
)


def _plaintext_has_no_identity(mode: Mode, found: Found[InboundConfig]) -> RuleProblems:
    if mode is Mode.DISABLE:
        for field in found.given:
            if field not in _OF_PLAINTEXT:
                yield field, "wanted no such key: mode DISABLE takes plaintext, which proves no identity"


def _http_keys_need_http(protocol: Protocol, found: Found[InboundConfig]) -> RuleProblems:
    if protocol is Protocol.TCP:
        for field in ("forward_client_cert", "client_cert_details", "num_trusted_proxies", "http"):
            if field in found.given:
                yield field, "wanted no such key with protocol: tcp, which reads no HTTP"


def _proxy_protocol_is_of_tcp(proxy_protocol: bool, protocol: Protocol) -> RuleProblems:
    if proxy_protocol and protocol is not Protocol.TCP:
        yield "proxy_protocol", "wanted no such key without protocol: tcp; over HTTP, x-forwarded-client-cert tells it"


def _some_balancer_is_trusted(
    proxy_protocol_from: tuple[IPv4Network | IPv6Network, ...], found: Found[InboundConfig]
) -> RuleProblems:
    if "proxy_protocol_from" in found.given and not proxy_protocol_from:
        yield "proxy_protocol_from", "wanted at least one block of addresses; without the key no header is read"


def _destinations_are_of_a_tunnel(destinations: tuple[Address, ...], tunnel: bool, mode: Mode) -> RuleProblems:
    if destinations and not tunnel and mode is not Mode.DISABLE:
        yield "destinations", "wanted no such key without tunnel: true, whose streams name a destination"


class CaptureKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The file of ``insecure_capture``."""

    file: Annotated[Path, Key("The pcapng file. It is created with mode 0600; an old one is replaced.", PATH)]
    max_size: Annotated[int, Key("Its size, after which nothing more is written.", size_between(1 << 16, 1 << 40))] = (
        64 << 20
    )


class HttpKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on the HTTP of one inbound listener."""

    http2: Annotated[
        bool,
        Key(
            "Read HTTP/2 and offer it to TLS clients by ALPN. Requests are not translated: an app that serves HTTP/1.1"
            " alone needs false.",
            FLAG,
        ),
    ] = True
    header_bytes: Annotated[
        int, Key("Bytes of a request's headers; more are answered with 431.", size_between(1 << 10, 1 << 20))
    ] = 1 << 16
    header_count: Annotated[int, Key("Headers of a request; more are answered with 431.", number(1, 10_000))] = 100
    uri_length: Annotated[
        int, Key("Bytes of a request's target; more are answered with 414.", size_between(64, 1 << 16))
    ] = 8192
    streams: Annotated[
        int, Key("Requests that may be under way at once on one HTTP/2 connection.", number(1, _MOST_STREAMS))
    ] = 100
    underscore_names: Annotated[
        bool,
        Key(
            "Accept underscores in the names of headers. Many apps read X_User as X-User; policies do not.",
            FLAG,
        ),
    ] = False
    pass_trailers: Annotated[
        bool,
        Key(
            "The app gets the trailers of requests, which no policy sees, and which some apps take for headers."
            " Without it they are dropped. Those of responses always pass.",
            FLAG,
        ),
    ] = False


class InboundConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One listener for peers: ``listen`` accepts their mutual TLS, ``app`` gets the plaintext.

    ``allow_given`` is no key: without it ``allow`` is no policy, and the file's ``policies`` decide alone.
    """

    listen: Annotated[Address, Key("Where peers connect.", ADDRESS)]
    app: Annotated[Address, Key("The app, which gets the plaintext.", ADDRESS)]
    mode: Annotated[
        Mode,
        Key(
            "STRICT accepts mutual TLS only. PERMISSIVE also accepts plaintext from clients without TLS, for a"
            " migration. DISABLE accepts plaintext only, and relays the bytes as they come.",
            choice(Mode),
            default="STRICT; with policies, what their PeerAuthentication says of the app's port",
        ),
    ] = Mode.STRICT
    allow: Annotated[
        tuple[SpiffeId, ...],
        Key(
            "The SPIFFE IDs that may connect; an empty list allows nobody. With policies it is one more ALLOW policy.",
            WORKLOAD_ID,
            required="unless mode is DISABLE, or there are policies",
        ),
    ] = ()
    tls_min: Annotated[TlsMinimum, Key("The minimum TLS version.", _TLS_MINIMUM)] = TlsMinimum.V1_3
    key_exchange: Annotated[
        KeyExchange,
        Key(
            "The key exchange group. library is OpenSSL's own choice: the post-quantum hybrid, if it has that.",
            _KEY_EXCHANGE,
        ),
    ] = KeyExchange.LIBRARY
    tunnel: Annotated[
        bool,
        Key(
            "Accept tunnels: a peer that offers HTTP/2 in its handshake opens streams, each a CONNECT to the app, to"
            " the address that it dialled, or to one of destinations. Other peers have one connection each.",
            FLAG,
        ),
    ] = False
    destinations: Annotated[
        tuple[Address, ...],
        Key("Further destinations that streams of a tunnel may name; all lead to the app.", ADDRESS),
    ] = ()
    resumption: Annotated[
        bool, Key("Issue session tickets: a peer's next connection then needs no full handshake.", FLAG)
    ] = False
    protocol: Annotated[
        Protocol,
        Key(
            "tcp relays the bytes unread. http reads and judges each request, and refuses anything but HTTP/1.1 and"
            " HTTP/2. auto detects HTTP by the first bytes; if the client sends none for limits.detect_timeout, and the"
            " app then sends first, it is tcp.",
            choice(Protocol),
        ),
    ] = Protocol.TCP
    forward_client_cert: Annotated[
        ForwardClientCert,
        Key(
            "With HTTP: what is done with x-forwarded-client-cert. sanitize removes it. sanitize_set replaces it with"
            " the verified peer's. append_forward adds the peer's to what came, and forward_only passes on what came;"
            " both trust the peers. Without mutual TLS, these four remove it. always_forward_only always passes it on.",
            choice(ForwardClientCert),
        ),
    ] = ForwardClientCert.SANITIZE_SET
    client_cert_details: Annotated[
        tuple[CertDetail, ...],
        Key("Optional parts of x-forwarded-client-cert, beside By, Hash and URI.", choice(CertDetail)),
    ] = ()
    proxy_protocol: Annotated[
        bool,
        Key(
            "Begin each connection to the app with a PROXY protocol header, version 2: the client's address and, with"
            " mutual TLS, the peer's SPIFFE ID as PP2_SUBTYPE_SSL_CN.",
            FLAG,
        ),
    ] = False
    proxy_protocol_from: Annotated[
        tuple[IPv4Network | IPv6Network, ...],
        Key(
            "The load balancers before this listener, as blocks of addresses. Each connection must come from one of"
            " them and begin, before TLS, with a PROXY protocol header, version 1 or 2; all others are refused. The"
            " header names the client for the log, for remoteIpBlocks and for the app.",
            _CIDR,
            default="none, and no header is read",
        ),
    ] = ()
    num_trusted_proxies: Annotated[
        int,
        Key(
            "With HTTP: the number of proxies in front of this listener that append to x-forwarded-for. With N, the"
            " client is the N-th address from the right there, for remoteIpBlocks; a request in which that is missing"
            " or malformed has an unknown client, which ALLOW rules do not match and DENY rules do. The app gets the"
            " header with the address of the connection appended. With 0 the client is the address of the connection,"
            " and the app gets the header as it came. Every caller is taken for such a proxy: let policies allow no"
            " others.",
            number(0, _MOST_PROXIES),
        ),
    ] = 0
    http: Annotated[HttpKeys, Key("Bounds on HTTP requests.")] = HttpKeys()
    allow_given: bool = True

    RULES: ClassVar[tuple[Rule, ...]] = (
        _app_is_not_its_own_listener,
        _plaintext_has_no_identity,
        _destinations_are_of_a_tunnel,
        _http_keys_need_http,
        _proxy_protocol_is_of_tcp,
        _some_balancer_is_trusted,
    )


def _does_not_dial_itself(listen: Address, to: Address) -> RuleProblems:
    if leads_back(to, listen):
        yield "to", f"wanted another address than its own listen, got {to}: it would dial itself"


def _warm_or_tunnel(warm: int, tunnel: bool) -> RuleProblems:
    if warm and tunnel:
        yield "warm", "wanted no such key with tunnel: true, whose connections need no handshake"


def _destination_is_of_a_tunnel(destination: Address | None, tunnel: bool) -> RuleProblems:
    if destination and not tunnel:
        yield "destination", "wanted no such key without tunnel: true, whose streams name a destination"


def _subset_of_a_host(host: str, subset: str) -> RuleProblems:
    if subset and not host:
        yield "subset", "wanted no such key without host, whose DestinationRule names the subsets"


class OutboundConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One listener for our app: ``listen`` accepts its plaintext, and the peer at ``to`` must prove to be ``peer``.

    ``plaintext`` and ``origination`` are no keys: a DestinationRule disables TLS to ``host``, or says how a server
    outside of the mesh is verified. Neither proves ``peer``.
    """

    listen: Annotated[Address, Key("Where our app connects; use loopback.", ADDRESS)]
    to: Annotated[Address, Key("The address that is dialled: the peer's sidecar.", ADDRESS)]
    peer: Annotated[SpiffeId, Key("The SPIFFE ID that the peer there must prove.", WORKLOAD_ID)]
    tls_min: Annotated[TlsMinimum, Key("The minimum TLS version.", _TLS_MINIMUM)] = TlsMinimum.V1_3
    key_exchange: Annotated[KeyExchange, Key("The key exchange group, as for inbound.", _KEY_EXCHANGE)] = (
        KeyExchange.LIBRARY
    )
    tunnel: Annotated[
        bool,
        Key("Offer HTTP/2. If the peer accepts it, the app's connections are streams of one tunnel.", FLAG),
    ] = False
    destination: Annotated[
        Address | None,
        Key("The destination that streams of a tunnel name.", ADDRESS, default="the address that is dialled"),
    ] = None
    resumption: Annotated[bool, Key("Use the peer's session tickets.", FLAG)] = False
    warm: Annotated[
        int,
        Key(
            "The number of connections that are made ahead, with their handshake. The far app has them open too.",
            number(0, _MOST_WARM),
        ),
    ] = 0

    host: Annotated[
        str,
        Key(
            "The service's name, by which policies' DestinationRules say how it is dialled, such as"
            " web.shop.svc.cluster.local.",
            TEXT,
            default="none, and no DestinationRule applies",
        ),
    ] = ""
    subset: Annotated[
        str,
        Key(
            "The subset of that service that is dialled: its settings in the DestinationRule beat the others there.",
            TEXT,
            default="none",
        ),
    ] = ""
    plaintext: bool = False
    origination: Origination | None = None

    @property
    def proves_peer(self) -> bool:
        """Whether the other side has to prove that it is ``peer``."""
        return not self.plaintext and self.origination is None

    RULES: ClassVar[tuple[Rule, ...]] = (
        _does_not_dial_itself,
        _subset_of_a_host,
        _warm_or_tunnel,
        _destination_is_of_a_tunnel,
    )


def _memory_holds_windows(tunnel_window: int, tunnel_memory: int, found: Found[Limits]) -> RuleProblems:
    least = _WINDOWS_IN_MEMORY * tunnel_window
    if tunnel_memory < least:
        yield (
            "tunnel_memory" if "tunnel_memory" in found.given else "tunnel_window",
            f"wanted tunnel_memory of at least {_WINDOWS_IN_MEMORY} times tunnel_window, which is {least} bytes,"
            f" got {tunnel_memory}: one stream whose app does not read must not use it up",
        )


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one sidecar; times in seconds. With workers, each has these bounds for itself."""

    connections: Annotated[int, Key("Connections at once, over all listeners.", COUNT)] = 1024
    unproven: Annotated[
        int,
        Key(
            "Further inbound connections, whose peer is not verified and authorized yet, or on which, in plaintext,"
            " neither side has sent anything. At the limit a new one evicts the oldest.",
            COUNT,
        ),
    ] = 1024
    handshakes: Annotated[int, Key("Handshakes that may be queued.", COUNT)] = 1024
    handshake_timeout: Annotated[
        float, Key("For a handshake, from its first byte, and for a load balancer's PROXY header.", SECONDS)
    ] = 5.0
    connect_timeout: Annotated[float, Key("For connecting to the peer or the app.", SECONDS)] = 5.0
    idle_timeout: Annotated[float, Key("A connection on which no byte moves for this long is closed.", SECONDS)] = 300.0
    detect_timeout: Annotated[
        float,
        Key(
            "How long a client may send nothing before its app, which may speak first, is dialled: in mode PERMISSIVE,"
            " and with protocol: auto. In mode DISABLE, how long one that is to be denied may end without a byte, as a"
            " probe of the port does, which is denied nothing.",
            SECONDS,
        ),
    ] = 0.1
    drain: Annotated[
        float,
        Key(
            "How long connections may go on after a stop has begun.",
            SECONDS,
            name="drain_timeout",
            old=("drain",),
        ),
    ] = 10.0
    withdrawal_grace: Annotated[
        float, Key("How long live connections may go on after our identity was withdrawn.", SECONDS)
    ] = 10.0
    tunnel_streams: Annotated[
        int, Key("Streams that a peer may have open in one tunnel.", number(1, _MOST_STREAMS))
    ] = 1024
    tunnel_window: Annotated[
        int,
        Key(
            "Bytes that a peer may send on one stream before the app reads. With less than the default, Envoy truncates"
            " responses.",
            size_between(1 << 16, 1 << 30),
        ),
    ] = 1 << 24
    tunnel_memory: Annotated[
        int,
        Key(
            "Bytes buffered for apps that do not read, over all tunnels: at least four times tunnel_window.",
            size_between(1 << 20, 1 << 40),
        ),
    ] = 1 << 28

    RULES: ClassVar[tuple[Rule, ...]] = (_memory_holds_windows,)


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What tunnel peers are told about this workload, for telemetry only; "" is left out."""

    cluster: Annotated[str, Key("Its cluster.", _LABEL, default="left out")] = ""
    namespace: Annotated[str, Key("Its namespace.", _LABEL, default="that of the SPIFFE ID")] = ""
    deployment: Annotated[str, Key("Its deployment.", _LABEL, default="left out")] = ""
    service: Annotated[str, Key("Its service.", _LABEL, default="the sidecar's name")] = ""
    version: Annotated[str, Key("Its version.", _LABEL, default="left out")] = ""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Where a sidecar's SVID comes from."""

    workload_api: Annotated[WorkloadAddress, Key("The Workload API's address.", _WORKLOAD_API)]


def _each_address_once(found: Found[SidecarFile]) -> RuleProblems:
    taken = set()
    for at in _LISTENING:
        for place, address in found.every(at):
            if address.port and address in taken:
                yield place, f"wanted an address that no other listener has, got {address} again"
            taken.add(address)


_OF_POLICIES = (
    "labels",
    "namespace",
    "trust_domain_aliases",
    "root_namespace",
    "path_normalization",
    "ext_authz",
    "request_auth",
)


def _each_inbound_has_a_policy(found: Found[SidecarFile]) -> RuleProblems:
    """Each inbound has its ``allow``, or the file has policies. There is no default that lets a peer in."""
    if "policies" in found.given:
        return
    for inbound in found.inner.get("inbound", ()):
        if "allow" not in inbound.given and inbound.values.get("mode") is not Mode.DISABLE:
            yield inbound.where("allow"), "this key is required, and it is missing"
    for field in _OF_POLICIES:
        if field in found.given:
            yield field, "wanted no such key without policies"


def _host_needs_policies(found: Found[SidecarFile]) -> RuleProblems:
    for place, _ in found.every("outbound.host"):
        if "policies" not in found.given:
            yield place, "wanted no such key without policies, whose DestinationRules are for it"


def _has_a_listener(inbound: tuple[InboundConfig, ...], outbound: tuple[OutboundConfig, ...]) -> RuleProblems:
    if not inbound and not outbound:
        yield "inbound", "wanted at least one inbound or outbound listener, got none"


def _workers_share_ports(workers: int, found: Found[SidecarFile]) -> RuleProblems:
    addresses = [address for at in _LISTENING for _, address in found.every(at)]
    if workers > 1 and not all(address.port for address in addresses):
        yield "workers", "wanted a port other than 0 for each listener, since the workers share them"


def _workers_have_sockets(workers: int, admin: AdminKeys | None) -> RuleProblems:
    if workers > 1 and admin is not None and admin.listen is not None:
        yield (
            "admin",
            "wanted socket alone with several workers, got listen: each of them answers for itself, and has a socket"
            " with its number at the end",
        )


def _one_section_per_domain(found: Found[SidecarFile]) -> RuleProblems:
    taken = set()
    for place, domain in found.every("crls.trust_domain"):
        if domain in taken:
            yield place, f"wanted each trust domain once, got {domain} again"
        taken.add(domain)


class SidecarFile(msgspec.Struct, frozen=True, kw_only=True):
    """A sidecar's file, key by key."""

    name: Annotated[str, Key("This sidecar's name in its access log.", TEXT)]
    spiffe_id: Annotated[
        SpiffeId, Key("This sidecar's SPIFFE ID, of which the Workload API must have an SVID.", WORKLOAD_ID)
    ]
    identity: Annotated[
        Identity | None, Key("Where the SVID comes from.", default="the Workload API at SPIFFE_ENDPOINT_SOCKET")
    ] = None
    inbound: Annotated[tuple[InboundConfig, ...], Key("Listeners for peers.", live=True)] = ()
    outbound: Annotated[tuple[OutboundConfig, ...], Key("Listeners for our app.", live=True)] = ()
    workload: Annotated[Workload, Key("What tunnel peers are told about this workload, for telemetry.", live=True)] = (
        Workload()
    )
    limits: Annotated[Limits, Key("Limits on connections, time and memory.", live=True)] = Limits()
    policies: Annotated[
        tuple[Path, ...],
        Key(
            "Files and directories with Istio's PeerAuthentication, AuthorizationPolicy, RequestAuthentication and"
            " DestinationRule documents, relative to this file's directory. They are watched.",
            PATH,
            live=True,
        ),
    ] = ()
    labels: Annotated[
        tuple[tuple[str, str], ...],
        Key("This workload's labels, which the policies' selectors match.", _LABEL_VALUE, live=True),
    ] = ()
    namespace: Annotated[
        str,
        Key(
            "This workload's namespace, for the scope of policies.",
            TEXT,
            default="that of spiffe_id, /ns/<namespace>/, else default",
            live=True,
        ),
    ] = ""
    trust_domain_aliases: Annotated[
        tuple[TrustDomain, ...],
        Key("Trust domains that policies' principals may name instead of ours.", TRUST_DOMAIN, live=True),
    ] = ()
    root_namespace: Annotated[str, Key("The namespace whose policies are for all namespaces.", TEXT, live=True)] = (
        ROOT_NAMESPACE
    )
    path_normalization: Annotated[
        Normalization,
        Key(
            "How a request's path is normalized before policies match it and the app gets it.",
            choice(Normalization),
            live=True,
        ),
    ] = Normalization.BASE
    ext_authz: Annotated[
        tuple[ExtAuthzProvider, ...], Key("The services that CUSTOM policies name as their providers.", live=True)
    ] = ()
    request_auth: Annotated[
        KeySetSettings, Key("How the key sets of RequestAuthentication documents are fetched.", live=True)
    ] = KeySetSettings()
    crls: Annotated[
        tuple[CrlKeys, ...],
        Key("Trust domains whose peers need a fresh CRL of each of their issuers, and the files that have these."),
    ] = ()
    health: Annotated[
        Address | None,
        Key(
            "Where /live and /ready are answered, in plaintext, from the start on; /ready also has the sidecar's"
            " name and SPIFFE ID.",
            ADDRESS,
            default="none: no probes are answered",
        ),
    ] = None
    insecure_keylog_file: Annotated[
        Path | None,
        Key(
            "For debugging only: the file to which the secrets of each TLS connection are appended, so that Wireshark"
            " can decrypt what was captured, as can anyone who reads the file. `meshtls sidecar run` refuses it without"
            " --allow-insecure-keylog.",
            PATH,
            default="none: secrets are not written",
        ),
    ] = None
    insecure_capture: Annotated[
        CaptureKeys | None,
        Key(
            "For debugging only: a file with all connections over the network and their TLS secrets, which Wireshark"
            " opens decrypted; those with the own app are not in it. Whoever reads it reads every connection."
            " `meshtls sidecar run` refuses it without --allow-insecure-keylog, and with several workers.",
            default="none: connections are not written",
        ),
    ] = None
    metrics: Annotated[MetricsKeys | None, Key("Metrics for Prometheus.", default="none: no metrics are counted")] = (
        None
    )
    tracing: Annotated[
        TracingKeys | None, Key("Traces, which are sent to a collector.", default="none: nothing is traced")
    ] = None
    workers: Annotated[int, Key("The number of processes that serve.", number(1, MOST_WORKERS))] = 1
    admin: Annotated[AdminKeys | None, Key("Where the admin interface answers.", default="nowhere")] = None
    log_level: Annotated[str, Key("The lowest level that is logged on standard error.", LOG_LEVEL, live=True)] = "INFO"
    log_format: Annotated[LogFormat, Key("How lines of the log are written.", choice(LogFormat))] = LogFormat.CONSOLE

    RULES: ClassVar[tuple[Rule, ...]] = (
        _each_address_once,
        _each_inbound_has_a_policy,
        _host_needs_policies,
        _has_a_listener,
        _workers_share_ports,
        _one_section_per_domain,
        _workers_have_sockets,
    )


class SidecarConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One sidecar. Its identity comes from the Workload API at ``workload_api``; without it, ``meshtls sidecar`` asks
    SPIFFE_ENDPOINT_SOCKET, and an embedding process gives the source itself.

    ``workers`` processes serve it. ``notices`` are what the operator is to know about the file. ``policies`` are what
    was read from the files that it names, ``policy_paths``; None where it names none.
    """

    name: str
    spiffe_id: SpiffeId
    workload_api: WorkloadAddress | None = None
    inbound: tuple[InboundConfig, ...] = ()
    outbound: tuple[OutboundConfig, ...] = ()
    workload: Workload = Workload()
    limits: Limits = Limits()
    health: Address | None = None
    insecure_keylog_file: Path | None = None
    insecure_capture: CaptureKeys | None = None
    metrics: Address | None = None
    tracing: TracingKeys | None = None
    workers: int = 1
    admin: AdminKeys | None = None
    log_level: str = "INFO"
    log_format: LogFormat = LogFormat.CONSOLE
    policies: PolicySet | None = None
    policy_paths: tuple[Path, ...] = ()
    ext_authz: tuple[ExtAuthzProvider, ...] = ()
    request_auth: KeySetSettings = KeySetSettings()
    crls: tuple[CrlKeys, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def process(self) -> ProcessName:
        """Which sidecar runs with this file."""
        return ProcessName(ProcessKind.SIDECAR, self.name, str(self.spiffe_id))
