"""Freed memory kept for the next step, where the C library would give it back."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Ask glibc to keep what a process frees; whether it agreed (elsewhere than on Linux with glibc it is not asked).

    By default every large block is mapped anew and unmapped when it is freed. A training step on a CPU then pays for
    zeroed pages at each activation. With this the process keeps its largest
    size until it ends. It holds for the whole process and cannot be undone, so only the command line and the benchmarks
    call it by themselves.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
        settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _LARGEST), (_M_TOP_PAD, 64 * 2**20))
        return sum(int(mallopt(name, value)) for name, value in settings) == len(settings)  # each gives 1 or 0
    except (OSError, AttributeError):
        return False
