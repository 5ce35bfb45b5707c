"""The policies that a sidecar with this file enforces, listener by listener."""

from __future__ import annotations

from typing import NamedTuple

from meshtls.errors import ConfigError, RequestError
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.model import MtlsMode
from meshtls.policy.review import Mode
from meshtls.sidecar.policies import PolicySet
from meshtls.sidecar.settings import InboundConfig, Protocol, SidecarConfig
from meshtls.sidecar.view import view_of

__all__ = ["Enforced", "enforced_by", "listener_of", "policies_of"]

THE_FILE = "the sidecar's file"


class Enforced(NamedTuple):
    """One inbound listener. ``policies`` include its ``allow``."""

    inbound: InboundConfig
    policies: WorkloadPolicies

    @property
    def mode(self) -> Mode:
        """That of the PeerAuthentications, unless the sidecar's file says another one."""
        mode = MtlsMode(self.inbound.mode.value)
        found = self.policies.mode(self.inbound.app.port)
        return found if found[0] is mode else (mode, THE_FILE)

    def reads_http(self, http: bool, *, tls: bool) -> bool:
        """Whether what comes is judged as HTTP requests. ``http``: whether it is HTTP; ``tls``: within TLS, which an
        auto listener with mode DISABLE takes for another protocol.
        """
        seen = http and not (tls and self.mode[0] is MtlsMode.DISABLE)
        return self.inbound.protocol is Protocol.HTTP or (self.inbound.protocol is Protocol.AUTO and seen)


def policies_of(config: SidecarConfig) -> PolicySet:
    """Raises ConfigError for a file that names none."""
    if config.policies is None:
        raise ConfigError(
            f"sidecar {config.name}: policies: wanted the files of policies, got none; its allow lists decide, which"
            " `meshtls sidecar validate` shows"
        )
    return config.policies


def enforced_by(config: SidecarConfig) -> list[Enforced]:
    """The inbound listeners, in the order of the file. Raises ConfigError."""
    policies_of(config)
    view = view_of(config)
    return [
        Enforced(inbound, policy.rules.compiled)
        for inbound, policy in zip(config.inbound, view.policies, strict=True)
        if policy.rules is not None
    ]


def listener_of(config: SidecarConfig, port: int | None) -> Enforced:
    """The listener before this port of the app; the only one, if no port is given. Raises RequestError."""
    found = enforced_by(config)
    chosen = [one for one in found if port in (None, one.inbound.app.port)]
    if len(chosen) != 1:
        ports = ", ".join(str(one.inbound.app.port) for one in found) or "none"
        raise RequestError(
            f"--port: wanted the port of the app behind one inbound listener of sidecar {config.name}, one of {ports},"
            f" got {'none' if port is None else port}"
        )
    return chosen[0]
