"""Which cgroup paths identify a container, and which prove nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.agent.attest.cgroup import container_selectors

A, B = "a" * 64, "b" * 64
POD = "2c48913c-b29f-11e7-9350-020968147796"
SLICED = POD.replace("-", "_")
DOCKER = [f"docker:container_id:{A}"]
K8S = [f"k8s:container_id:{A}", f"k8s:pod-uid:{POD}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"0::/system.slice/docker-{A}.scope\n", DOCKER),
        (f"0::/docker/{A}\n", DOCKER),
        (f"0::/docker/{A}/docker/{B}\n", DOCKER),
        (f"12:memory:/docker/{A}\n11:cpu,cpuacct:/docker/{A}\n1:name=systemd:/docker/{A}\n", DOCKER),
        (f"12:memory:/docker/{A}\n11:cpu,cpuacct:/\n", DOCKER),
        (f"0::/kubepods/burstable/pod{POD}/{A}\n", K8S),
        (f"0::/kubepods/pod{POD}/{A}\n", K8S),
        (f"0::/kubepods.slice/kubepods-pod{SLICED}.slice/cri-containerd-{A}.scope\n", K8S),
        (
            "0::/kubepods.slice/kubepods-besteffort.slice/"
            f"kubepods-besteffort-pod{SLICED}.slice/crio-{A}.scope/container\n",
            K8S,
        ),
        (f"0::/kubepods/besteffort/pod{POD}\n", [f"k8s:pod-uid:{POD}"]),
    ],
)
def test_a_container_that_root_made_is_known(text: str, expected: list[str]) -> None:
    assert sorted(map(str, container_selectors(text.encode()))) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0::/\n",
        "0::/user.slice/user-1000.slice/session-1.scope\n",
        "no colons\n",
        f"0::/system.slice/docker-{A[:-1]}.scope\n",
        f"0::/system.slice/docker-{A}a.scope\n",
        f"0::/user.slice/user-1000.slice/user@1000.service/docker-{A}.scope\n",
        f"0::/user.slice/user-1000.slice/user@1000.service/docker/{A}\n",
        f"0::/user.slice/user-1000.slice/user@1000.service/kubepods/pod{POD}/{A}\n",
        f"0::/../../system.slice/docker-{A}.scope\n",
        f"0::/../{A}\n",
        f"12:memory:/docker/{A}\n11:cpu:/docker/{B}\n",
        f"12:memory:/docker/{A}\n11:cpu:/kubepods/pod{POD}/{A}\n",
    ],
    ids=[
        "nothing",
        "the root",
        "a user's session",
        "no cgroup line",
        "an ID too short",
        "an ID too long",
        "a scope that a user named",
        "a group that a user named",
        "a pod that a user named",
        "relative to our own namespace",
        "a sibling in our own namespace",
        "two containers at once",
        "a container and a pod at once",
    ],
)
def test_a_path_that_a_user_can_create_or_that_is_ambiguous_proves_nothing(text: str) -> None:
    assert container_selectors(text.encode()) == frozenset()


# Whatever some splitter of lines, of blanks or of fields takes for an end, but for the kernel's own.
SEPARATORS = [
    b"\r",
    b"\r\r",
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\x1d",
    b"\x1e",
    "\x85".encode(),
    "\u2028".encode(),
    "\u2029".encode(),
]


@pytest.mark.parametrize("separator", [*SEPARATORS, b"\x85", b"\x00", b"\t"], ids=repr)
@pytest.mark.parametrize("forged", [f"0::/docker/{A}", f"0::/kubepods/pod{POD}/{A}"])
def test_a_name_of_a_group_forges_no_line(separator: bytes, forged: str) -> None:
    name = b"x" + separator + forged.encode()
    assert container_selectors(b"0::/user.slice/" + name + b"\n") == frozenset()
    assert container_selectors(b"0::/user.slice/" + name + separator + b"y\n") == frozenset()


@pytest.mark.parametrize(
    "name",
    [b"\x1b[2J", b"\xff", "\u202e".encode(), "\u2066".encode(), "\x9b".encode(), b"\xed\xa0\x80"],
    ids=repr,
)
def test_an_undecodable_cgroup_name_proves_nothing(name: bytes) -> None:
    kernels = f"0::/docker/{A}".encode()
    assert container_selectors(kernels + b"/" + name + b"\n") == frozenset()
    assert container_selectors(kernels + b"\n1:cpu:/" + name + b"\n") == frozenset()
    assert sorted(map(str, container_selectors(kernels + "/grün\n".encode()))) == DOCKER


# What the kernel lets a user name a group: any bytes but NUL, the slash and the line feed.
NAMES = st.binary(max_size=40).map(lambda name: name.translate(None, b"\0/\n"))
PIECES = st.sampled_from([*SEPARATORS, b"0::", b":", b"docker", f"docker-{A}.scope".encode(), A.encode(), b"kubepods"])
HOSTILE = st.lists(NAMES | PIECES, max_size=8).map(b"".join).filter(lambda name: name not in (b"", b".", b".."))


@given(st.lists(HOSTILE, min_size=1, max_size=6))
def test_no_names_below_a_users_own_group_make_it_a_container(names: list[bytes]) -> None:
    path = b"/user.slice/user-1000.slice/user@1000.service/" + b"/".join(names)
    assert container_selectors(b"0::" + path + b"\n") == frozenset()
    assert container_selectors(b"1:name=systemd:" + path + b"\n0::" + path + b"\n") == frozenset()


@given(st.lists(HOSTILE, max_size=6))
def test_no_names_below_a_containers_group_make_it_another_container(names: list[bytes]) -> None:
    found = container_selectors(b"0::" + b"/".join([f"/docker/{B}".encode(), *names]) + b"\n")
    assert sorted(map(str, found)) in ([], [f"docker:container_id:{B}"])


@given(st.binary())
def test_any_content_is_read_without_an_error(content: bytes) -> None:
    container_selectors(content)
