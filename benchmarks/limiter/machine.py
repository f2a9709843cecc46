"""What the machine did meanwhile: a figure of a shared machine says little without it.

Belongs here: load and processor time of the whole machine. Not here: processor time of the parts of a case.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "Watch", "waited_for_core_s"]

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine during one case."""

    cores: int
    load_before: float  # load average of the last minute
    load_after: float
    busy: float  # share of all cores' time that was used, by anybody; 0..1
    stolen: float  # share of it that the host gave to other machines; 0..1

    def text(self) -> str:
        """For the table."""
        return f"{self.load_before:.1f}>{self.load_after:.1f}, {self.busy:.0%} busy"


class Watch:
    """Looks at the machine from its making until `stop`."""

    def __init__(self) -> None:
        """Starts now."""
        self._load = os.getloadavg()[0]
        self._at_s = time.monotonic()
        self._ticks = _ticks()

    def stop(self) -> Machine:
        """What happened since."""
        cores = os.cpu_count() or 1
        available_s = max(1e-9, (time.monotonic() - self._at_s) * cores)
        busy, stolen = (now - then for now, then in zip(_ticks(), self._ticks, strict=True))
        return Machine(
            cores,
            self._load,
            os.getloadavg()[0],
            busy / TICKS_PER_S / available_s,
            stolen / TICKS_PER_S / available_s,
        )


def waited_for_core_s() -> float:
    """How long this process' main thread was ready to run while others had the cores; 0 where nobody tells.

    Source: https://docs.kernel.org/scheduler/sched-stats.html (read 2026-11-21).
    """
    told = Path("/proc/self/schedstat")
    return int(told.read_text(encoding="ascii").split()[1]) / 1e9 if told.exists() else 0.0


def _ticks() -> tuple[int, int]:
    """Busy, stolen. Source: https://man7.org/linux/man-pages/man5/proc_stat.5.html (read 2026-11-21)."""
    line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    user, nice, system, _, _, interrupts, soft, stolen = (int(word) for word in line.split()[1:9])
    return user + nice + system + interrupts + soft, stolen
