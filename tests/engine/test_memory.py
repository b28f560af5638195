"""Freed memory that stays with the process."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from saccade.engine.memory import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(12):
    torch.zeros(64, 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.zeros(64, 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_large_blocks_are_not_mapped_anew():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "default")
    }
    # 5 x 256 MB are 320,000 pages of 4 kB; 640 where the system takes huge ones. The heap may still grow by a block or
    # two, where a small block came to lie behind a freed one.
    assert faults["keep"] < faults["default"] / 2 + 200
    assert faults["default"] > 600


def test_elsewhere_it_is_not_asked(monkeypatch):
    from saccade.engine.memory import keep_freed_memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
