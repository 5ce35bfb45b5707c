"""Converts SPIRE's files (HCL, JSON or YAML, alone or in a Kubernetes ConfigMap) into the tree of our files. Pure.

SPIRE's file has one block with the program's keys and another, ``plugins``; in ours, both are on one level. So SPIRE's
tree is rearranged, each value keeping its place in SPIRE's file, and then read like ours. SPIRE's blocks and keys that
have no effect here are reported in a notice with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import yaml

from meshtls.config.document import (
    Document,
    Items,
    Node,
    Nothing,
    Place,
    Section,
    Text,
    compose,
    described,
    document_of,
)
from meshtls.config.hcl import looks_like_hcl, read_hcl

__all__ = ["FOR_ALL", "Block", "Plugin", "SpireFile", "either_form"]

_OFF = ("false", "", "0")
#: Keys of SPIRE's server and agent that have no effect here, with the reason.
FOR_ALL = {
    "log_file": "logs go to standard error, for the service manager to store",
    "log_format": "a log record is one line of text",
    "log_source_location": "each log record has its module's name",
    "profiling_enabled": "there is no profiling port",
    "profiling_port": "there is no profiling port",
    "profiling_freq": "there is no profiling port",
    "profiling_names": "there is no profiling port",
}


class Block:
    """The keys of one of SPIRE's blocks while they are rearranged: some are removed, the rest is read like ours."""

    def __init__(self, document: Document, node: Node) -> None:
        section = _as_section(document, node)
        self.document = document
        self.place = section.place
        self.keys: dict[str, Node] = dict(section.keys)

    @property
    def section(self) -> Section:
        return Section(self.place, self.keys)

    def take(self, name: str) -> Block:
        """Remove and return an inner block, an empty one if there is none."""
        return Block(self.document, self.keys.pop(name, Nothing(self.place.below(name))))

    def unfold(self, name: str) -> None:
        """Turn the block of this name into a section if it is a list of one."""
        if name in self.keys:
            self.keys[name] = _as_section(self.document, self.keys[name])

    def without_effect(self, reasons: Mapping[str, str]) -> None:
        """Remove these keys, with a notice for each."""
        for name in [name for name in self.keys if name in reasons]:
            self.document.notice(self.keys.pop(name).place, f"loads; no effect here because {reasons[name]}")

    def refused(self, reasons: Mapping[str, str]) -> None:
        """Remove these keys. A key that is not off is a problem."""
        for name in [name for name in self.keys if name in reasons]:
            node = self.keys.pop(name)
            if not isinstance(node, Text) or node.text not in _OFF:
                self.document.problems.add(node.place, reasons[name])

    def refuse_ours(self, names: Iterable[str]) -> None:
        """Remove keys of ours that SPIRE's block does not have, since they are plugins or blocks there."""
        for name in names:
            if name in self.keys:
                self.document.problems.add(self.keys.pop(name).place, "unknown key; it is a block of its own")

    def unknown(self, wanted: Iterable[str]) -> None:
        """Remove all remaining keys. Each is a problem."""
        for node in self.keys.values():
            known = ", ".join(wanted)
            self.document.problems.add(
                node.place, f"unknown key; wanted one of {known}" if known else "wanted no key here"
            )
        self.keys = {}


@dataclass(frozen=True, slots=True)
class Plugin:
    """One plugin: its place, and its ``plugin_data``."""

    place: Place
    data: Block


class SpireFile:
    """SPIRE's file. ``block`` has the keys of the program, ``name`` (``server`` or ``agent``)."""

    def __init__(self, document: Document, name: str) -> None:
        self.document = document
        self._top = Block(document, document.root)
        self._wanted = [name, "plugins"]
        if name not in self._top.keys:
            document.problems.add(document.root.place.below(name), "this block is required, and it is missing")
        self.block = self._top.take(name)
        self._plugins = self._top.take("plugins")
        self._kinds: dict[str, Place] = {}

    def plugins(self, kind: str, known: Iterable[str]) -> dict[str, Plugin]:
        """Remove and return the plugins of a kind, by name. An unknown name is a problem."""
        found: dict[str, Plugin] = {}
        node = self._plugins.keys.pop(kind, None)
        self._kinds[kind] = node.place if node else self._plugins.place.below(kind)
        for one in node.items if isinstance(node, Items) else (node,) if node else ():
            for name, inner in _as_section(self.document, one).keys.items():
                plugin = Block(self.document, inner)
                if name not in known:
                    wanted = ", ".join(known)
                    self.document.problems.add(plugin.place, f"unknown plugin; wanted one of {wanted}")
                    continue
                if name in found:
                    self.document.problems.add(plugin.place, "wanted each plugin once, got it again")
                enabled = plugin.keys.pop("enabled", None)
                data = plugin.take("plugin_data")
                plugin.unknown(("plugin_data", "enabled"))
                if isinstance(enabled, Text) and enabled.text == "false":
                    self.document.notice(enabled.place, "this plugin is disabled, and was not checked")
                else:
                    found[name] = Plugin(plugin.place, data)
        return found

    def take(self, name: str) -> Block:
        """Remove and return one of the other blocks, an empty one if there is none."""
        self._wanted.append(name)
        return self._top.take(name)

    def where(self, kind: str) -> Place:
        """The place of the plugins of a kind that were removed, for the section made from them."""
        return self._kinds[kind]

    def finish(self, blocks: Mapping[str, str], kinds: Mapping[str, str]) -> Document:
        """The document in our form. Remaining blocks and plugins are problems, except these.

        ``blocks`` and ``kinds`` (of plugins) have no effect here; their values are the reasons.
        """
        self._top.without_effect(blocks)
        self._top.unknown((*self._wanted, *blocks))
        self._plugins.without_effect(kinds)
        self._plugins.unknown((*self._kinds, *kinds))
        return Document(self.block.section, self.document.problems, self.document.notices)


def _as_section(document: Document, node: Node) -> Section:
    """The section of a block, which in HCL and its JSON form may be a list of one."""
    if isinstance(node, Items) and len(node.items) == 1:
        [node] = node.items
    if isinstance(node, Section):
        return node
    if not isinstance(node, Nothing):
        document.problems.add(node.place, f"wanted a block, got {described(node)}")
    return Section(node.place)


def either_form(file: str, text: str, block: str) -> tuple[Document, bool]:
    """The document, and whether it has SPIRE's form: HCL, or with a block of this name. Raises ConfigError."""
    if looks_like_hcl(text):
        return document_of(file, read_hcl(file, text)), True
    node = compose(file, text)
    wrapped = _in_config_map(node, f"{block}.conf")
    if wrapped is None:
        document = document_of(file, node)
        return document, block in document.root.keys
    # The text of a block scalar begins in the line after its '|'.
    first_line = int(wrapped.start_mark.line) + (2 if wrapped.style in ("|", ">") else 1)
    if looks_like_hcl(wrapped.value):
        return document_of(file, read_hcl(file, wrapped.value, first_line)), True
    return document_of(file, compose(file, wrapped.value, first_line), first_line), True


def _in_config_map(document: yaml.Node, name: str) -> yaml.ScalarNode | None:
    """The file of this name in a Kubernetes ConfigMap; None if the document is not a ConfigMap."""
    if not isinstance(document, yaml.MappingNode):
        return None
    members = {key.value: value for key, value in document.value if isinstance(key, yaml.ScalarNode)}
    kind, data = members.get("kind"), members.get("data")
    if not isinstance(kind, yaml.ScalarNode) or kind.value != "ConfigMap" or not isinstance(data, yaml.MappingNode):
        return None
    files = {key.value: value for key, value in data.value if isinstance(value, yaml.ScalarNode)}
    found: yaml.ScalarNode | None = files.get(name)
    return found
