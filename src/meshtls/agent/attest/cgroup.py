"""Which container a process is in, by the content of ``/proc/PID/cgroup`` (cgroups(7)), version 1 and 2. Pure.

A user may own a part of the cgroup tree and name groups there at will, ``docker-<any id>.scope`` among them. So only
paths that the container engines create, and that belong to root, count: a path is matched from its start, not searched.
A path that starts with ``/..`` is relative to our own cgroup namespace, hides its start, and so proves nothing: an
agent in a container needs the host's cgroup namespace to recognise the containers of others.

The kernel forbids only the line feed in a group's name. A file with a name that is not printable proves nothing: no
container engine creates such a name.
"""

from __future__ import annotations

import re

from meshtls.agent.attest.proc_text import lines_of, text_of
from meshtls.registration import Selector

__all__ = ["container_selectors"]

_ID = r"[0-9a-f]{64}"
_UID = r"[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}"
_DOCKER = re.compile(rf"/(?:docker/|system\.slice/docker-)(?P<id>{_ID})(?:\.scope)?(?:/|\Z)", re.ASCII)
_POD = re.compile(
    r"/kubepods(?:\.slice)?/"
    r"(?:(?:kubepods-)?(?:burstable|besteffort)(?:\.slice)?/)?"
    rf"(?:kubepods-)?(?:(?:burstable|besteffort)-)?pod(?P<uid>{_UID})(?:\.slice)?"
    rf"(?:/(?:[a-z-]+-)?(?P<id>{_ID})(?:\.scope)?)?(?:/|\Z)",
    re.ASCII,
)


def container_selectors(content: bytes) -> frozenset[Selector]:
    """The selectors ``docker:container_id:...``, or ``k8s:pod-uid:...`` and ``k8s:container_id:...``; none outside of a
    container, and none where the lines of version 1's hierarchies name different containers.
    """
    lines = [text_of(line) for line in lines_of(content)]
    if None in lines:
        return frozenset()
    paths = [line.split(":", 2)[2] for line in lines if line and line.count(":") >= 2]
    found = {selectors for path in paths if (selectors := _of(path))}
    return found.pop() if len(found) == 1 else frozenset()


def _of(path: str) -> frozenset[Selector]:
    docker, pod = _DOCKER.match(path), _POD.match(path)
    if docker:
        return frozenset({Selector("docker", f"container_id:{docker['id']}")})
    if not pod:
        return frozenset()
    selectors = {Selector("k8s", f"pod-uid:{pod['uid'].replace('_', '-')}")}
    if pod["id"]:
        selectors.add(Selector("k8s", f"container_id:{pod['id']}"))
    return frozenset(selectors)
