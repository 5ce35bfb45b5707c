"""Istio's documents from YAML or JSON, strictly. Pure.

A document is read as the API server and Istio's validation would take it, and a few that these would take are refused:
see ``fields_values``. Nothing is loaded if anything is wrong, since a policy that is left out may be a DENY.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from meshtls.config.document import Items, Nothing, Place, Problems, Section, Text, yaml_documents
from meshtls.errors import ConfigError
from meshtls.policy.istio.fields import Field, Shape, Support, Table
from meshtls.policy.istio.fields_common import METADATA
from meshtls.policy.istio.fields_networking import DESTINATION_RULE
from meshtls.policy.istio.fields_reading import Reader, type_described
from meshtls.policy.istio.fields_security import AUTHORIZATION_POLICY, PEER_AUTHENTICATION, REQUEST_AUTHENTICATION
from meshtls.policy.istio.fields_values import TEXT
from meshtls.policy.istio.model import (
    AuthorizationPolicy,
    DestinationRule,
    Documents,
    Metadata,
    PeerAuthentication,
    RequestAuthentication,
)

__all__ = ["DEFAULT_NAMESPACE", "KINDS", "LARGEST", "Kind", "parse_documents"]

#: Characters of a file: some 30,000 policies.
LARGEST = 16 << 20
DEFAULT_NAMESPACE = "default"
_MOST_PROBLEMS = 1000


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of document. ``spec`` has its fields, and makes a function from the metadata to the document."""

    name: str
    group: str
    versions: tuple[str, ...]
    spec: Table
    meaning: str


KINDS = {
    one.name: one
    for one in (
        Kind("PeerAuthentication", "security.istio.io", ("v1", "v1beta1"), PEER_AUTHENTICATION,
             "Whether inbound ports take mutual TLS, plaintext, or both."),
        Kind("AuthorizationPolicy", "security.istio.io", ("v1", "v1beta1"), AUTHORIZATION_POLICY,
             "Who may do what to which workload."),
        Kind("RequestAuthentication", "security.istio.io", ("v1", "v1beta1"), REQUEST_AUTHENTICATION,
             "Which tokens are taken, and how they are verified."),
        Kind("DestinationRule", "networking.istio.io", ("v1", "v1beta1", "v1alpha3"), DESTINATION_RULE,
             "How a destination is dialled. Only its TLS part is enforced."),
    )
}  # fmt: skip
_GROUPS = {kind.group for kind in KINDS.values()}


def parse_documents(texts: Iterable[tuple[str, str]], *, default_namespace: str = DEFAULT_NAMESPACE) -> Documents:
    """The documents of these files, each given as its name in messages and its text.

    ``default_namespace`` is that of a document that names none. Raises ConfigError with the problems of all files, at
    most a thousand, each with its file, line and field; a file without a document is one.
    """
    reading = _Reading(default_namespace)
    for file, text in texts:
        reading.file(file, text)
    return reading.documents()


class _Reading:
    def __init__(self, default_namespace: str) -> None:
        self._problems = Problems(_MOST_PROBLEMS)
        self._reader = Reader(self._problems)
        self._default_namespace = default_namespace
        self._seen: dict[tuple[str, str, str], Place] = {}
        self._found: dict[str, list[Any]] = {kind: [] for kind in KINDS}

    def file(self, name: str, text: str) -> None:
        try:
            documents = yaml_documents(name, text, self._problems, LARGEST)
        except ConfigError as error:
            self._problems.add_unreadable(name, error)
            return
        lists = [document.root.keys.get("items") for document in documents]
        if all(isinstance(one, Items) and not one.items for one in lists):
            # Perhaps it is being written. Taken as it is, it would lift the DENY that was in it.
            self._problems.add_unreadable(name, ConfigError(f"{name}: wanted at least one document, got none"))
        for document in documents:
            for node in self._with_items(document.root):
                self._document(node)

    def documents(self) -> Documents:
        self._problems.check()
        peers: list[PeerAuthentication] = self._found["PeerAuthentication"]
        policies: list[AuthorizationPolicy] = self._found["AuthorizationPolicy"]
        requests: list[RequestAuthentication] = self._found["RequestAuthentication"]
        destinations: list[DestinationRule] = self._found["DestinationRule"]
        return Documents(
            peer_authentications=tuple(peers),
            authorization_policies=tuple(policies),
            request_authentications=tuple(requests),
            destination_rules=tuple(destinations),
            warnings=tuple(self._reader.warnings),
        )

    def _with_items(self, root: Section) -> Iterator[Section]:
        """The document, or those of a list of documents."""
        kind = root.keys.get("kind")
        name = kind.text if isinstance(kind, Text) else ""
        if name != "List" and not (name.endswith("List") and name.removesuffix("List") in KINDS):
            yield root
            return
        version = _version(root)
        wanted = ["v1"] if name == "List" else _versions(KINDS[name.removesuffix("List")])
        if version not in wanted:
            self._problems.add(
                root.where("apiVersion"), f"wanted {_either(wanted)} for {name}, got {_given(root, 'apiVersion')}"
            )
        for key, node in root.keys.items():
            if key not in ("apiVersion", "kind", "metadata", "items"):
                self._problems.add(node.place, "unknown field; wanted one of apiVersion, kind, metadata, items")
        items = root.keys.get("items")
        if not isinstance(items, Items):
            self._problems.add(root.where("items"), f"wanted a list of documents, got {_given(root, 'items')}")
            return
        for item in items.items:
            if isinstance(item, Section):
                yield item
            else:
                self._problems.add(item.place, f"wanted a document, got {type_described(item)}")

    def _document(self, root: Section) -> None:
        kind = self._kind(root)
        if kind is None:
            return
        if isinstance(root.keys.get("spec", Nothing(root.place)), Nothing):
            root = Section(root.place, {**root.keys, "spec": Section(root.where("spec"))})
        for values in self._reader.read(root, _ROOTS[kind.name]):
            meta = Metadata(**{"namespace": self._default_namespace, **values["metadata"]})
            if self._is_new(kind, meta):
                self._found[kind.name].append(values["spec"](meta=meta))

    def _kind(self, root: Section) -> Kind | None:
        """The kind of a document, unless it is none that is read here."""
        node = root.keys.get("kind")
        kind = KINDS.get(node.text) if isinstance(node, Text) else None
        group = _version(root).partition("/")[0] if "/" in _version(root) else ""
        if kind is not None and _version(root) in _versions(kind):
            return kind
        if kind is not None:
            wanted = f"wanted {_either(_versions(kind))} for {kind.name}"
            self._problems.add(root.where("apiVersion"), f"{wanted}, got {_given(root, 'apiVersion')}")
        elif group in _GROUPS:
            known = [one.name for one in KINDS.values() if one.group == group]
            self._problems.add(root.where("kind"), f"wanted {_either(known)}, got {_given(root, 'kind')}")
        else:
            self._problems.add(
                root.where("apiVersion"),
                f"wanted a document of {_either(sorted(_GROUPS, reverse=True))}, got {_given(root, 'apiVersion')},"
                f" kind {_given(root, 'kind')}; keep other documents in other files",
            )
        return None

    def _is_new(self, kind: Kind, meta: Metadata) -> bool:
        first = self._seen.setdefault((kind.name, meta.namespace, meta.name), meta.place)
        if first is not meta.place:
            self._problems.add(
                meta.place,
                f"wanted each {kind.name} once, got {meta.namespace}/{meta.name} again;"
                f" the first is in {first.file}, line {first.line}",
            )
        return first is meta.place


def _root(kind: Kind) -> Table:
    return Table(
        kind.name,
        (
            Field("apiVersion", _either(_versions(kind)) + ".", TEXT, required=True),
            Field("kind", f"{kind.name}.", TEXT, required=True),
            Field("metadata", "As in Kubernetes.", METADATA, Shape.ONE, "metadata", required=True),
            Field("spec", "Missing, it is an empty one.", kind.spec, Shape.ONE, "spec"),
            Field("status", "Kubernetes' own.", support=Support.NO_EFFECT, null=True),
        ),
        lambda place, **values: values,
    )


def _version(root: Section) -> str:
    node = root.keys.get("apiVersion")
    return node.text if isinstance(node, Text) else ""


def _versions(kind: Kind) -> list[str]:
    return [f"{kind.group}/{version}" for version in kind.versions]


def _either(words: list[str]) -> str:
    return " or ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else words[0]


def _given(root: Section, name: str) -> str:
    return type_described(root.keys[name]) if name in root.keys else "nothing"


_ROOTS = {kind.name: _root(kind) for kind in KINDS.values()}
