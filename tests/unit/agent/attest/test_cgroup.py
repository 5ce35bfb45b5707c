"""Which container a cgroup's path proves, and which paths prove nothing."""

from __future__ import annotations

import pytest

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
    assert sorted(map(str, container_selectors(text))) == expected


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
def test_what_a_user_can_make_or_what_is_unclear_proves_nothing(text: str) -> None:
    assert container_selectors(text) == frozenset()
