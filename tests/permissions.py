"""Permissions that bind root too, as tests in containers are run by it."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

_VERSION = 0x20080522
_PASSES_OVER_PERMISSIONS = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@contextlib.contextmanager
def permissions_bind() -> Iterator[None]:
    """Take from this thread, and those that it starts, what lets root read every file.

    Source: capget(2), of Linux; a file of mode 0 can then not be read by its owner.
    """
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits
    assert libc.capget(header, sets) == 0
    before = sets[0]
    sets[0] = before & ~_PASSES_OVER_PERMISSIONS
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(header, sets) == 0
