"""Reads a sidecar's configuration: one YAML file, all problems with file, line and key. ``settings`` declares the keys.

There is no default that lets a peer in: an inbound that speaks TLS must say who may come, and an empty list is nobody.
Where the file names policies, they may say it instead; what they leave open, a notice says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from meshtls.address import is_loopback
from meshtls.config.document import read_text, yaml_document
from meshtls.config.reading import Found, read
from meshtls.errors import ConfigError, RequestError
from meshtls.observe.metrics.keys import scrape_notices
from meshtls.policy.decision import provider_missing
from meshtls.policy.files import read_documents
from meshtls.policy.istio.destination import client_tls
from meshtls.policy.istio.lint import Severity, findings
from meshtls.policy.istio.model import (
    Action,
    AuthorizationPolicy,
    ClientTls,
    ClientTlsMode,
    Documents,
    MeshSettings,
)
from meshtls.policy.istio.modes import Modes
from meshtls.policy.istio.scope import policy_name
from meshtls.policy.workloads import workload_of
from meshtls.sidecar.crl_files import CrlKeys
from meshtls.sidecar.handshake import tls_options
from meshtls.sidecar.policies import PolicySet
from meshtls.sidecar.settings import (
    CaptureKeys,
    InboundConfig,
    Mode,
    OutboundConfig,
    Protocol,
    SidecarConfig,
    SidecarFile,
)
from meshtls.sidecar.tracing.keys import TracingKeys
from meshtls.tls.origination import Origination, OriginationContexts

__all__ = ["ReadPolicies", "load_config", "parse_config", "with_workers"]

#: Reads the documents in these files and directories. Raises ConfigError.
ReadPolicies = Callable[[Sequence[Path]], Documents]

#: As Istio's: stands for the authorities of the system, like no value at all.
_SYSTEM = "system"
#: Findings on fields of HTTP where none is read.
_OF_TCP = ("http-fields-on-tcp", "http-rule-on-tcp")


def load_config(path: Path) -> SidecarConfig:
    """Read a sidecar's file and the policies that it names. Raises ConfigError."""
    return parse_config(read_text(path), str(path))


def parse_config(text: str, file: str = "sidecar.yaml", read_policies: ReadPolicies = read_documents) -> SidecarConfig:
    """Read a sidecar's YAML; ``file`` is its name in messages, and its directory is that of relative paths.

    Raises ConfigError, also for what ``read_policies`` finds wrong.
    """
    document = yaml_document(file, text)
    found = read(document, SidecarFile)
    said, notices = found.value, list(document.notices)
    paths = tuple(Path(file).parent / one for one in said.policies)
    policies = _policies(said, read_policies(paths)) if "policies" in found.given else None
    inbound, outbound = said.inbound, said.outbound
    notices += scrape_notices(said.metrics)
    if policies is not None:
        modes, applying = policies.modes(), policies.applying()
        notices += policies.documents.warnings
        notices += _findings(policies, applying, reads_tcp=any(one.protocol is not Protocol.HTTP for one in inbound))
        notices += _missing_providers(applying, [one.name for one in said.ext_authz])
        inbound = tuple(
            _governed(one, section, modes, applying, notices)
            for one, section in zip(inbound, found.inner.get("inbound", ()), strict=True)
        )
        outbound = tuple(_dialled(one, policies, Path(file).parent, notices) for one in outbound)
    return SidecarConfig(
        name=said.name,
        spiffe_id=said.spiffe_id,
        workload_api=said.identity.workload_api if said.identity else None,
        inbound=inbound,
        outbound=outbound,
        workload=said.workload,
        limits=said.limits,
        health=said.health,
        insecure_keylog_file=_keylog(said, Path(file).parent, notices),
        insecure_capture=_capture(said, Path(file), notices),
        metrics=said.metrics.listen if said.metrics else None,
        tracing=_tracing(said, Path(file).parent, notices),
        workers=said.workers,
        admin=said.admin,
        log_level=said.log_level,
        log_format=said.log_format,
        policies=policies,
        policy_paths=paths,
        ext_authz=said.ext_authz,
        request_auth=said.request_auth,
        crls=tuple(_at(one, Path(file).parent) for one in said.crls),
        notices=tuple(notices),
    )


def _keylog(said: SidecarFile, directory: Path, notices: list[str]) -> Path | None:
    if said.insecure_keylog_file is None:
        return None
    file = directory / said.insecure_keylog_file
    notices.append(
        f"insecure_keylog_file: INSECURE: the secrets of each TLS connection are written to {file};"
        " remove the key when you are done"
    )
    return file


def _capture(said: SidecarFile, file: Path, notices: list[str]) -> CaptureKeys | None:
    keys = said.insecure_capture
    if keys is None:
        return None
    if said.insecure_keylog_file is not None:
        raise ConfigError(
            f"{file}: insecure_capture: wanted it without insecure_keylog_file, since it has the secrets inside"
        )
    keys = msgspec.structs.replace(keys, file=file.parent / keys.file)
    notices.append(
        f"insecure_capture: INSECURE: all connections over the network are written to {keys.file} with their TLS"
        " secrets; remove the key when you are done"
    )
    return keys


def _tracing(said: SidecarFile, directory: Path, notices: list[str]) -> TracingKeys | None:
    keys = said.tracing
    if keys is None:
        return None
    if not keys.otlp.tls and not is_loopback(keys.otlp.address.host):
        notices.append(
            f"tracing.otlp: spans go to {keys.otlp} in plaintext: readers of the network path see who calls whom"
        )
    files = {one: directory / path for one in ("ca_file", "headers_file") if (path := getattr(keys, one)) is not None}
    return msgspec.structs.replace(keys, **files)


def _at(crls: CrlKeys, directory: Path) -> CrlKeys:
    return msgspec.structs.replace(crls, files=tuple(directory / one for one in crls.files))


def _policies(said: SidecarFile, documents: Documents) -> PolicySet:
    mesh = MeshSettings(
        trust_domain=said.spiffe_id.trust_domain.name,
        trust_domain_aliases=tuple(one.name for one in said.trust_domain_aliases),
        root_namespace=said.root_namespace,
        normalization=said.path_normalization,
    )
    workload = workload_of(said.spiffe_id, said.labels, said.namespace or None)
    return PolicySet(documents=documents, mesh=mesh, workload=workload)


def _findings(policies: PolicySet, applying: tuple[AuthorizationPolicy, ...], *, reads_tcp: bool) -> Iterator[str]:
    """What is to be said of the policies that apply here."""
    documents = msgspec.structs.replace(policies.documents, authorization_policies=applying)
    for one in findings(documents, policies.mesh):
        if one.severity is not Severity.INFO and (reads_tcp or one.code not in _OF_TCP):
            yield str(one)


def _missing_providers(applying: Iterable[AuthorizationPolicy], configured: Collection[str]) -> Iterator[str]:
    for policy in applying:
        if policy.action is Action.CUSTOM and not policy.dry_run and policy.provider not in configured:
            missing = provider_missing(policy.provider or "", configured)
            yield f"{policy.meta.place}: {missing}; what a rule of {policy_name(policy.meta)} matches is denied"


def _governed(
    inbound: InboundConfig,
    section: Found[InboundConfig],
    modes: Modes,
    applying: tuple[AuthorizationPolicy, ...],
    notices: list[str],
) -> InboundConfig:
    """The inbound with the mode that its PeerAuthentication says, unless the file says one."""
    where = section.where("listen")
    if "mode" not in section.given:
        mode, by = modes.of(inbound.app.port)
        inbound = msgspec.structs.replace(inbound, mode=Mode(mode.value))
        if by is None:
            notices.append(
                f"{where}: no PeerAuthentication is for port {inbound.app.port}, so plaintext is taken, too"
                " (PERMISSIVE); write one with mode STRICT, or mode: STRICT here"
            )
    if "allow" not in section.given:
        inbound = msgspec.structs.replace(inbound, allow_given=False)
        if not any(one.action is Action.ALLOW and not one.dry_run for one in applying):
            notices.append(
                f"{where}: no AuthorizationPolicy with action ALLOW is for this workload, and there is no allow, so"
                " everybody whom no DENY policy refuses may connect; write one with `spec: {}` to allow nobody"
            )
    return inbound


def _dialled(outbound: OutboundConfig, policies: PolicySet, directory: Path, notices: list[str]) -> OutboundConfig:
    """The outbound with the TLS that the DestinationRule of its host says. Raises ConfigError for one that can't be.

    Files that the rule names are relative to ``directory``.
    """
    if not outbound.host:
        return outbound
    where, host = f"outbound {outbound.listen}: the DestinationRule for {outbound.host}", outbound.host
    try:
        tls = client_tls(
            policies.documents, policies.mesh, policies.workload, host, outbound.to.port, outbound.subset or None
        )
    except RequestError as error:
        raise ConfigError(f"outbound {outbound.listen}: {error}") from error
    if tls is None or tls.mode is ClientTlsMode.ISTIO_MUTUAL:
        return outbound
    if tls.mode is ClientTlsMode.DISABLE:
        notices.append(
            f"{where} says DISABLE: it is dialled in plaintext, and nothing proves that it is {outbound.peer}"
        )
        return msgspec.structs.replace(outbound, plaintext=True)
    origination = _origination(tls, host, directory)
    outbound = msgspec.structs.replace(outbound, origination=origination)
    try:
        OriginationContexts(origination, tls_options(outbound)).check()
    except ConfigError as error:
        raise ConfigError(*(f"{where}: {problem}" for problem in error.problems)) from error
    roots = "the system's authorities" if origination.roots is None else origination.roots
    notices.append(
        f"{where} says {tls.mode.value}: the server is verified as {' or '.join(origination.expected)} by {roots}, and"
        f" nothing proves that it is {outbound.peer}"
    )
    return outbound


def _origination(tls: ClientTls, host: str, directory: Path) -> Origination:
    def path(name: str | None) -> Path | None:
        return None if name is None else directory / name

    mutual = tls.mode is ClientTlsMode.MUTUAL
    return Origination(
        server_name=(tls.sni or host).removesuffix("."),
        names=tls.subject_alt_names,
        roots=None if tls.ca_certificates == _SYSTEM else path(tls.ca_certificates),
        certificate=path(tls.client_certificate) if mutual else None,
        key=path(tls.private_key) if mutual else None,
    )


def with_workers(config: SidecarConfig, workers: int | None) -> SidecarConfig:
    """The same with so many workers, where a number is given. Raises ConfigError where they could not share a port."""
    if workers is None:
        return config
    ports = [listener.listen.port for listener in config.inbound] + [way.listen.port for way in config.outbound]
    ports += [address.port for address in (config.health, config.metrics) if address is not None]
    if workers > 1 and config.admin is not None and config.admin.listen is not None:
        raise ConfigError("admin.listen: wanted admin.socket alone with several workers, each of which has its own")
    if workers > 1 and not all(ports):
        raise ConfigError("workers: wanted a port other than 0 for each listener, since the workers share them")
    return msgspec.structs.replace(config, workers=workers)
