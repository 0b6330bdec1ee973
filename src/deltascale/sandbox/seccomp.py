"""A system call filter for bubblewrap: no processes, no threads, no sockets, no new namespaces.

bubblewrap takes it as a compiled BPF program and loads it just before it starts the interpreter.
Knows the numbers of two machines, x86-64 and 64-bit ARM.
"""

from __future__ import annotations

import errno
import platform
import struct

__all__ = ["filter_program"]

# Numbers as in the kernel's tables: x86-64, 64-bit ARM (None: it has no such call).
_CALLS: dict[str, tuple[int, int | None]] = {
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "clone3": (435, 435),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
}
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _MACHINE_AT = 0, 4
_X32_BIT = 0x40000000


def filter_program() -> bytes | None:
    """The filter for this machine, as the bytes of its `sock_filter`s; None: none is known for it.

    A denied call fails with EPERM. A call of a foreign machine's kind kills the process.
    """
    known = _MACHINES.get(platform.machine())
    if known is None:
        return None
    column, machine = known
    numbers = [number for pair in _CALLS.values() if (number := pair[column]) is not None]
    steps = [
        _step(_LOAD, _MACHINE_AT),
        _step(_JUMP_EQUAL, machine, if_so=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER_AT),
        # On x86-64 the same calls have second numbers, with this bit set.
        _step(_JUMP_AT_LEAST, _X32_BIT, if_so=len(numbers) + 1),
    ]
    for place, number in enumerate(numbers):
        steps.append(_step(_JUMP_EQUAL, number, if_so=len(numbers) - place))
    steps.append(_step(_RETURN, _ALLOW))
    steps.append(_step(_RETURN, _FAIL | errno.EPERM))
    return b"".join(steps)


def _step(code: int, value: int, *, if_so: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_so, 0, value)
