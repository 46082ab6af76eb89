"""What a process on Linux can give up, by calls for which Python has no names: prctl, Landlock, seccomp.

All of it holds for the calling process and for what it starts, and can't be taken back. It is called in the
forked child that becomes the program. Elsewhere than on Linux these functions do nothing.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = [
    "adopt_orphans",
    "confine",
    "die_with_parent",
    "has_seccomp",
    "landlock_version",
    "take_no_rights",
]

_SET_DEATH_SIGNAL, _SET_SECCOMP, _DROP_CAPABILITY, _SET_SUBREAPER, _NO_NEW_RIGHTS = 1, 22, 24, 36, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on all machines

# linux/landlock.h: bits of a right to a file or a folder, and all that each version can refuse.
_RUN, _WRITE, _READ, _LIST, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_MAKE_DEVICES = 1 << 6 | 1 << 11
_REFUSED = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}
_SIGNALS_AND_ABSTRACT_SOCKETS = 0b11  # since version 6
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")

# Of a machine: its number in linux/audit.h, and that of the call ``socket``.
_MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
_IO_URING_SETUP = 425  # a ring opens sockets, too
_X32 = 0x40000000  # from here on x86_64 has all calls a second time


def die_with_parent(parent: int) -> bool:
    """Be killed when the process *parent* ends. False if it is gone already."""
    _control(_SET_DEATH_SIGNAL, signal.SIGKILL)
    return os.getppid() == parent


def adopt_orphans(wanted: bool = True) -> None:
    """Become the parent of all descendants whose own parent ends, of daemons too; or no longer."""
    _control(_SET_SUBREAPER, int(wanted))


def take_no_rights() -> None:
    """From now on, let no set-user-id program give more rights."""
    _control(_NO_NEW_RIGHTS, 1)


@cache
def landlock_version() -> int:
    """The version of Landlock that the kernel has; 0 for none."""
    return max(0, _call(_CREATE_RULESET, None, 0, 1))


def has_seccomp() -> bool:
    """Whether ``confine`` refuses sockets on this machine."""
    return sys.platform == "linux" and platform.machine() in _MACHINES and struct.calcsize("P") == 8


def confine(read: Iterable[str], readable: Iterable[int], writable: Iterable[int], own: str) -> None:
    """Be kept to what lies in *read* (files and folders), to the open files *readable* and *writable*, which
    can be opened again by ``/proc/self/fd``, and to the folder *own*; and if this is root, have the rights of
    any user. Raises OSError where that fails.

    What stays possible: to see the names, sizes and times of all files, and, before version 6 of Landlock, to
    signal other processes of the same user.
    """
    take_no_rights()
    capability = 0
    while _control(_DROP_CAPABILITY, capability) == 0:  # until the kernel knows no more, or we may not
        capability += 1
    version = landlock_version()
    refused = _REFUSED[min(version, 5)]
    scoped = _SIGNALS_AND_ABSTRACT_SOCKETS if version >= 6 else 0
    attributes = struct.pack("=QQQ", refused, 0, scoped)  # older kernels take the longer struct with zeros
    rules = _checked(_call(_CREATE_RULESET, attributes, len(attributes), 0))
    for path in read:
        with suppress(FileNotFoundError):
            _allow(rules, path, refused & (_RUN | _READ | (_LIST if Path(path).is_dir() else 0)))
    for path in _DEVICES:
        _allow(rules, path, refused & (_READ | _WRITE))
    for number in readable:
        _allow(rules, number, refused & _READ)
    for number in writable:
        _allow(rules, number, refused & (_READ | _WRITE | _TRUNCATE))
    _allow(rules, own, refused & ~(_RUN | _MAKE_DEVICES))
    _checked(_call(_RESTRICT_SELF, rules, 0))
    os.close(rules)
    if has_seccomp():
        _refuse_sockets()


def _allow(rules: int, what: str | int, rights: int) -> None:
    number = os.open(what, os.O_PATH | os.O_CLOEXEC) if isinstance(what, str) else what
    try:
        rule = struct.pack("=Qi", rights, number)
        # Of a pipe or a file in memory (EBADFD) Landlock takes no rule, as it refuses none of these.
        if _call(_ADD_RULE, rules, 1, rule, 0) < 0 and ctypes.get_errno() != 77:
            _checked(-1)
    finally:
        if isinstance(what, str):
            os.close(number)


def _refuse_sockets() -> None:
    """Have ``socket`` fail with EACCES. Landlock knows TCP alone: UDP and named sockets would stay open."""
    machine, socket_call = _MACHINES[platform.machine()]
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    steps = (
        (load, 0, 0, 4),  # the machine that the call is for
        (equal, 0, 6, machine),  # else: the last step
        (load, 0, 0, 0),  # the number of the call
        (at_least, 3, 0, _X32),
        (equal, 2, 0, socket_call),
        (equal, 1, 0, _IO_URING_SETUP),
        (answer, 0, 0, 0x7FFF0000),  # do it
        (answer, 0, 0, 0x00050000 | 13),  # EACCES
        (answer, 0, 0, 0x80000000),  # end the process
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    filters = struct.pack("@HP", len(steps), ctypes.addressof(code))
    _checked(_control(_SET_SECCOMP, 2, filters))


def _control(option: int, value: int, more: bytes | None = None) -> int:
    library = _library()
    if library is None:
        return -1
    number: int = library.prctl(option, ctypes.c_ulong(value), more, None, None)
    return number


def _call(number: int, *values: int | bytes | None) -> int:
    library = _library()
    if library is None:
        return -1
    result: int = library.syscall(ctypes.c_long(number), *values)
    return result


@cache
def _library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
