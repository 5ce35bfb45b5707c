"""What a configuration says of data store, key manager and node attestors, in our words and in SPIRE's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL

from meshtls.ca.store.address import postgres_url, sqlite_url
from meshtls.scalars import word
from meshtls.server.settings import KeyPlace, X509PopConfig
from meshtls.yaml_reader import Section

__all__ = ["Plugins", "our_plugins", "spire_plugins"]

_SPIRE_KINDS = {"DataStore": "datastore", "KeyManager": "key_manager", "NodeAttestor": "node_attestors"}
_NOT_YET = ("k8s_sat", "k8s_psat")


@dataclass(frozen=True, slots=True)
class Plugins:
    """For each kind the chosen names with their data, None where there is none, and what has no effect."""

    kinds: Mapping[str, Mapping[str, Section]]
    places: Mapping[str, Section]
    notices: tuple[str, ...] = ()

    def datastore(self, data_dir: Path) -> URL:
        """Raises ConfigError."""
        chosen = self._one("datastore", ("sqlite3", "postgres"))
        default = sqlite_url(data_dir / "datastore.sqlite3")
        if chosen is None:
            return default
        kind, data = chosen
        if kind == "postgres":
            return data.required("connection_string", postgres_url)
        return data.optional("connection_string", sqlite_url, default)

    def keys(self, data_dir: Path) -> tuple[KeyPlace, Path, tuple[str, ...]]:
        """Where keys are kept, the directory that is for them, and notices about it. Raises ConfigError."""
        chosen = self._one("key_manager", ("disk", "memory"))
        default = data_dir / "keys"
        if chosen is None:
            return KeyPlace.DISK, default, ()
        kind, data = chosen
        place = KeyPlace(kind)
        told = data.optional("keys_path", lambda text: Path(word(text)), default)
        directory = _directory_for(told)
        if directory == told:
            return place, directory, ()
        notice = f"{data.where('keys_path')}: {told} is the name of a file; keys are kept in the directory {directory}"
        return place, directory, (notice,)

    def attestors(self) -> tuple[bool, X509PopConfig | None]:
        """Whether join tokens are taken, and x509pop's settings where nodes may attest by certificate."""
        if "node_attestors" not in self.kinds:
            return True, None
        chosen = self.kinds["node_attestors"]
        for kind in chosen:
            if kind not in ("join_token", "x509pop", *_NOT_YET):
                wanted = f"wanted join_token or x509pop ({', '.join(_NOT_YET)}: not supported yet)"
                self.places["node_attestors"].complain(kind, f"{wanted}, got {kind!r}")
        data = chosen.get("x509pop")
        pop = None if data is None else X509PopConfig(data.required("ca_bundle_path", lambda text: Path(word(text))))
        return "join_token" in chosen, pop

    def finish(self) -> None:
        """Raise ConfigError for a key that nobody took."""
        for chosen in self.kinds.values():
            for kind, data in chosen.items():
                if kind not in _NOT_YET:
                    data.finish()

    def _one(self, key: str, wanted: tuple[str, ...]) -> tuple[str, Section] | None:
        chosen = self.kinds.get(key)
        if chosen is None:
            return None
        place = self.places[key]
        if len(chosen) != 1:
            place.refuse(f"wanted one of {', '.join(wanted)}, got {', '.join(chosen) or 'none'}")
        [(kind, data)] = chosen.items()
        if kind not in wanted:
            place.complain(kind, f"wanted {' or '.join(wanted)}, got {kind!r}")
        return kind, data


def our_plugins(top: Section) -> Plugins:
    """``datastore``, ``key_manager`` and ``node_attestors``: each a name with its data below."""
    places = {key: section for key in _SPIRE_KINDS.values() if (section := top.section(key))}
    kinds = {key: {name: section.part(name) for name in section.names()} for key, section in places.items()}
    return Plugins(kinds, places, tuple(_not_yet(places)))


def spire_plugins(top: Section) -> Plugins:
    """The same from SPIRE's block ``plugins``. A node attestor that it does not name is not there."""
    plugins = top.part("plugins")
    places = {key: plugins.part(kind) for kind, key in _SPIRE_KINDS.items()}
    kinds = {key: _data_of_blocks(section) for key, section in places.items()}
    sql = kinds["datastore"].pop("sql", None)
    if sql is not None:
        kinds["datastore"][sql.required("database_type", word)] = sql
    notices = [*_not_yet(places), *_of_the_agent(plugins.part("WorkloadAttestor"))]
    plugins.finish()
    chosen = {key: found for key, found in kinds.items() if found or key == "node_attestors"}
    return Plugins(chosen, places, tuple(notices))


def _directory_for(keys_path: Path) -> Path:
    """SPIRE keeps all keys in one file. Ours go beside it: the file is SPIRE's still, and the directory around it,
    which is the data directory as a rule, holds more than keys and is locked already.
    """
    named_as_file = bool(keys_path.suffix) and not keys_path.is_dir()
    return keys_path.with_name(f"{keys_path.name}.d") if named_as_file or keys_path.is_file() else keys_path


def _data_of_blocks(section: Section) -> dict[str, Section]:
    found = {}
    for name in section.names():
        block = section.part(name)
        found[name] = block.part("plugin_data")
        block.finish()
    return found


def _not_yet(places: Mapping[str, Section]) -> Iterator[str]:
    attestors = places.get("node_attestors")
    for name in attestors.names() if attestors else ():
        if attestors and name in _NOT_YET:
            yield f"{attestors.where(name)}: recognised but not supported yet: no node can attest with it"


def _of_the_agent(section: Section) -> Iterator[str]:
    for name in section.names():
        yield f"{section.where(name)}: workloads are attested by the agent; no effect in a server's configuration"
