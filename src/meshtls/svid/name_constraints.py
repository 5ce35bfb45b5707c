"""Which names a CA allows below it (RFC 5280, sections 4.2.1.10 and 6.1.3 (b) and (c)).

Where the standard leaves a choice this reads them as OpenSSL does, which checks the same chains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from meshtls.printable import printable
from meshtls.x509_names import name_text

__all__ = ["MAX_COMPARISONS", "constraint_violation", "names_of"]

#: Most comparisons for one path: names times subtrees.
MAX_COMPARISONS = 4096


def names_of(certificate: x509.Certificate, alternatives: Iterable[x509.GeneralName]) -> list[x509.GeneralName]:
    """Every name of a certificate to which constraints apply: its subject, its alternative names and, as in OpenSSL,
    its common names if they look like host names and there is no DNS name.
    """
    names = list(alternatives)
    subject = certificate.subject
    if len(subject) > 0:
        names.append(x509.DirectoryName(subject))
    names += [x509.RFC822Name(text) for text in _texts(subject, NameOID.EMAIL_ADDRESS) if text.isascii()]
    if not any(isinstance(name, x509.DNSName) for name in names):
        names += [x509.DNSName(text) for text in _texts(subject, NameOID.COMMON_NAME) if _like_a_host(text)]
    return names


def constraint_violation(constraints: x509.NameConstraints, names: Iterable[x509.GeneralName]) -> str | None:
    """The first name that these constraints forbid, in words; None where they allow all of them.

    A name is also forbidden if the constraints on its form can't be evaluated.
    """
    permitted, excluded = constraints.permitted_subtrees or (), constraints.excluded_subtrees or ()
    for name in names:
        kind = type(name)
        allowed = [subtree for subtree in permitted if type(subtree) is kind]
        denied = [subtree for subtree in excluded if type(subtree) is kind]
        if not allowed and not denied:
            continue
        within = _WITHIN.get(kind)
        if within is None:
            return f"a name of the kind {kind.__name__}, on which name constraints can't be judged"
        try:
            if any(within(name.value, subtree.value) for subtree in denied):
                return f"a name that its issuer's name constraints exclude: {_short(name)}"
            if allowed and not any(within(name.value, subtree.value) for subtree in allowed):
                return f"a name that its issuer's name constraints do not permit: {_short(name)}"
        except ValueError as error:
            return f"a name that name constraints can't be applied to: {_short(name)}: {error}"
    return None


def _uri_within(uri: str, base: str) -> bool:
    """A host matches itself; a host with a leading dot matches all hosts below it."""
    host = urlsplit(uri).hostname
    if not host:
        raise ValueError("a URI without a host")
    try:
        ip_address(host)
    except ValueError:
        return host.endswith(base.lower()) if base.startswith(".") else host == base.lower()
    raise ValueError("a URI with an address for a host")


def _dns_within(name: str, base: str) -> bool:
    name, base = name.lower(), base.lower()
    return not base or name == base or name.endswith(base if base.startswith(".") else f".{base}")


def _email_within(address: str, base: str) -> bool:
    """A mailbox matches itself; a host, all its mailboxes; one with a leading dot, those of all hosts below it."""
    local, _, host = address.rpartition("@")
    if "@" in base:
        wanted_local, _, wanted_host = base.rpartition("@")
        return local == wanted_local and host.lower() == wanted_host.lower()
    return host.lower().endswith(base.lower()) if base.startswith(".") else host.lower() == base.lower()


def _directory_within(name: x509.Name, base: x509.Name) -> bool:
    return name.rdns[: len(base.rdns)] == base.rdns


def _address_within(address: object, network: object) -> bool:
    return address in network  # type: ignore[operator]  # an address and a network; of another family it is not in it


_WITHIN: dict[type[x509.GeneralName], Callable[..., bool]] = {
    x509.UniformResourceIdentifier: _uri_within,
    x509.DNSName: _dns_within,
    x509.RFC822Name: _email_within,
    x509.DirectoryName: _directory_within,
    x509.IPAddress: _address_within,
}


def _texts(name: x509.Name, oid: x509.ObjectIdentifier) -> list[str]:
    return [str(one.value) for one in name.get_attributes_for_oid(oid)]


def _like_a_host(text: str) -> bool:
    return "." in text.strip(".") and all(one.isalnum() or one in "-_." for one in text) and text.isascii()


def _short(name: x509.GeneralName) -> str:
    text = name_text(name.value) if isinstance(name, x509.DirectoryName) else printable(str(name.value))
    return f"'{text if len(text) <= 80 else text[:77] + '...'}'"
