"""The few Linux calls that the standard library of Python 3.11 does not offer.

Numbers are those of the kernel's uapi headers. Every function raises OSError with the call's name when refused.
"""

from __future__ import annotations

import ctypes
import functools
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
CAPABILITY_VERSION_3 = 0x20080522
LAST_CAPABILITY = 63


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Attach a file system."""
    words = [os.fsencode(word) if word else None for word in (source, target, kind)]
    data = os.fsencode(options) if options else None
    _checked(_libc().mount(*words, ctypes.c_ulong(flags), data), f"mount {kind or source} on {target}")


def detach(target: str) -> None:
    """Unmount, as soon as nobody uses it any more."""
    _checked(_libc().umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def unshare(flags: int) -> None:
    """Leave namespaces; a new PID namespace begins with the next child."""
    _checked(_libc().unshare(flags), "unshare")


def rejoin(namespace: int, kind: int) -> None:
    """Enter the namespace behind this descriptor."""
    _checked(_libc().setns(namespace, kind), "setns")


def pivot_root(new: str, old: str) -> None:
    """Exchange the root, by number: glibc has no wrapper for it."""
    number = PIVOT_ROOT[os.uname().machine]
    _checked(_libc().syscall(ctypes.c_long(number), os.fsencode(new), os.fsencode(old)), "pivot_root")


def prctl(option: int, value: int = 0, pointer: ctypes.c_void_p | None = None) -> int:
    """Set a property of this process; at most two arguments, the second a pointer."""
    result = int(_libc().prctl(option, ctypes.c_ulong(value), pointer or ctypes.c_ulong(0), 0, 0))
    _checked(result, f"prctl {option}")
    return result


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def bound_capabilities(keep: frozenset[int]) -> None:
    """Drop everything else from the bounding set, and the ambient set as a whole."""
    for capability in range(LAST_CAPABILITY + 1):
        if capability in keep:
            continue
        try:
            present = prctl(PR_CAPBSET_READ, capability)
        except OSError:
            break
        if present:
            prctl(PR_CAPBSET_DROP, capability)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)


def keep_capabilities(keep: frozenset[int]) -> None:
    """Effective and permitted become what is held of `keep`; inheritable becomes empty."""
    header = _Header(CAPABILITY_VERSION_3, 0)
    sets = (_Sets * 2)()
    _checked(_libc().capget(ctypes.byref(header), ctypes.byref(sets)), "capget")
    for word in range(2):
        wanted = sum(1 << (number - 32 * word) for number in keep if number // 32 == word)
        sets[word].permitted &= wanted
        sets[word].effective = sets[word].permitted
        sets[word].inheritable = 0
    _checked(_libc().capset(ctypes.byref(header), ctypes.byref(sets)), "capset")
