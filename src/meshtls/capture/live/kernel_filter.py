"""A filter for the kernel: classic BPF that lets TCP pass, over IPv4 and IPv6, from or to some ports. Pure.

A socket filter is a program of 8-byte instructions with one accumulator (A) and one index register (X), and only jumps
forward, so that it always ends (Linux, Documentation/networking/filter.rst). Offsets count from the IP header, by
Linux's extension SKF_NET_OFF, so that the same program serves every kind of interface.

IPv6 extension headers are not followed: the port of such a packet is not where it is looked for. Later fragments of
IPv4 have no ports. Neither passes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from meshtls.capture.ip import TCP
from meshtls.capture.links import IPV4, IPV6

__all__ = ["LOOPBACK", "MOST_PORTS", "Instruction", "assembled", "tcp_filter"]

#: Ports of one filter: a jump reaches 255 instructions at most.
MOST_PORTS = 32

# Load a word, half word or byte at a fixed place, or X further; X from an IPv4 header's length; jumps; the answer.
_LD_W, _LD_H, _LD_B, _LD_H_X, _LDX_IP = 0x20, 0x28, 0x30, 0x48, 0xB1
_JEQ, _JSET, _RET = 0x15, 0x45, 0x06
#: Where the kernel's extensions are: what it knows of the packet, and the packet from its network header on.
_KNOWN, _NET = -0x1000, -0x100000
_PROTOCOL, _PACKET_TYPE, _HARDWARE_TYPE = _KNOWN + 0, _KNOWN + 4, _KNOWN + 28
_OUTGOING = 4
#: The hardware type of a loopback interface (linux/if_arp.h).
LOOPBACK = 772
_FRAGMENT_OFFSET = 0x1FFF
#: IPv6's header, and where its next header is named.
_V6_HEADER, _V6_NEXT = 40, 6


class Instruction(NamedTuple):
    """One of ``struct sock_filter``: what to do, how far to jump if true and if false, and its operand."""

    code: int
    if_true: int
    if_false: int
    operand: int


class _Program:
    """Instructions with jumps to labels, which are places further down."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, str, str, int]] = []
        self._labels: dict[str, int] = {}

    def do(self, code: int, operand: int, if_true: str = "", if_false: str = "") -> None:
        self._steps.append((code, if_true, if_false, operand))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._steps)

    def instructions(self) -> tuple[Instruction, ...]:
        def distance(at: int, label: str) -> int:
            return self._labels[label] - at - 1 if label else 0

        return tuple(
            Instruction(code, distance(at, yes), distance(at, no), operand & 0xFFFF_FFFF)
            for at, (code, yes, no, operand) in enumerate(self._steps)
        )


def tcp_filter(ports: Iterable[int], *, keep: int) -> tuple[Instruction, ...]:
    """Let the first ``keep`` bytes of each TCP packet from or to one of ``ports`` pass; without ports, of all.

    None that a loopback interface sends: it shows the same packet a second time, received.
    Raises ValueError for more than MOST_PORTS ports.
    """
    wanted = sorted(set(ports))
    if len(wanted) > MOST_PORTS:
        raise ValueError(f"wanted at most {MOST_PORTS} ports, got {len(wanted)}")
    program = _Program()
    program.do(_LD_W, _HARDWARE_TYPE)
    program.do(_JEQ, LOOPBACK, "", "other")
    program.do(_LD_W, _PACKET_TYPE)
    program.do(_JEQ, _OUTGOING, "drop", "")
    program.label("other")
    program.do(_LD_W, _PROTOCOL)
    program.do(_JEQ, IPV4, "ipv4", "")
    program.do(_JEQ, IPV6, "ipv6", "drop")
    program.label("ipv4")
    program.do(_LD_B, _NET + 9)
    program.do(_JEQ, TCP, "", "drop")
    if wanted:
        program.do(_LD_H, _NET + 6)
        program.do(_JSET, _FRAGMENT_OFFSET, "drop", "")
        program.do(_LDX_IP, _NET)
        for port_at in (0, 2):
            program.do(_LD_H_X, _NET + port_at)
            for port in wanted:
                program.do(_JEQ, port, "keep_4", "")
        program.do(_RET, 0)
    program.label("keep_4")
    program.do(_RET, keep)
    program.label("ipv6")
    program.do(_LD_B, _NET + _V6_NEXT)
    program.do(_JEQ, TCP, "", "drop")
    for port_at in (_V6_HEADER, _V6_HEADER + 2) if wanted else ():
        program.do(_LD_H, _NET + port_at)
        for port in wanted:
            program.do(_JEQ, port, "keep_6", "")
    if wanted:
        program.do(_RET, 0)
    program.label("keep_6")
    program.do(_RET, keep)
    program.label("drop")
    program.do(_RET, 0)
    return program.instructions()


def assembled(program: Iterable[Instruction]) -> bytes:
    """The bytes of ``struct sock_filter[]``. Raises struct.error where a jump is too far."""
    return b"".join(struct.pack("=HBBI", *one) for one in program)
