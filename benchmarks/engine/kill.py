"""The case kill: kill -9 at 20 moments, then the same command until it is done.

Belongs here: choosing the moments, recognising them from outside. Not here: what is promised (cases.py).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engine.case import Findings, Scope
from benchmarks.engine.judge import paid_twice
from benchmarks.engine.lab import Lab
from benchmarks.engine.provider_process import ProviderProcess, simulator
from benchmarks.engine.tables import sixty_tokens

__all__ = ["run_kill"]

SECONDS_OF_WORK = 90
SLICES = 5
FREEZING, BETWEEN, PROMOTING, RANDOM = 2, 1, 2, 15  # kills of each kind, 20 in all
ENDS_MAX = 6  # commands after the last kill
LOOK_EVERY_S = 0.001
SEED = 7
AFTER_S = 0.05  # the longest time after a moment was seen

Moment = Callable[[subprocess.Popen[bytes]], bool]


@dataclass(frozen=True, slots=True)
class _Kill:
    kind: str
    moment: Moment
    after_s: float


def run_kill(scope: Scope) -> Findings:
    """20,000 rows at a rate at which they take a minute and a half, without the time that starting takes."""
    rows = scope.rows(20_000, 6_000)
    lab = Lab(scope.folder / "lab")
    lab.table(rows, sixty_tokens)
    lab.job(slices={"rows": -(-rows // SLICES)})
    findings = Findings()
    per_minute = rows / SECONDS_OF_WORK * 60
    settings = {"requests_per_minute": per_minute, "latency_median_s": 0.2, "burst_s": 1.0}
    with simulator(scope.folder / "simulator", **settings) as provider:
        lab.providers(provider.port, {"requests_per_minute": per_minute})
        in_flight = [_killed(lab, provider, kill, findings) for kill in _kills(lab, provider)]
        codes = _to_the_end(lab)
        stats = provider.stats(detail=True)
    found = lab.output()
    made = [calls for calls in in_flight if calls is not None]
    findings.seen.append(f"exits after the kills: {codes}; last words: {lab.told(lines=1)}")
    if codes[-1] != 0:
        findings.trouble.append(f"the command ended with {codes}: {lab.told()}")
    findings.figures = {
        "rows_lost": found.lost,
        "rows_not_ok": found.expected - found.ok,
        "rows_duplicated": found.duplicated,
        "paid_twice": paid_twice([stats]),
        "in_flight_at_kills": sum(made),
        "paid_twice_beyond_in_flight": max(0, paid_twice([stats]) - sum(made)),
        "closed_before_answer": stats["closed_before_answer"],
        "kills": len(made),
        "rows": rows,
    }
    return findings


def _kills(lab: Lab, provider: ProviderProcess) -> Iterator[_Kill]:
    draw = random.Random(SEED)
    for _ in range(FREEZING):
        yield _Kill("freezing", lambda _: _freezes(lab.home), draw.uniform(0, AFTER_S))
    for share in sorted(draw.random() for _ in range(RANDOM)):
        yield _Kill("random", _accepted(provider, round(share * lab.rows)), draw.uniform(0, AFTER_S))
    for _ in range(BETWEEN):
        yield _Kill("between publish and promote", lambda _: _published(lab.home) >= SLICES, 0.0)
    for _ in range(PROMOTING):
        yield _Kill("promoting", lambda process: _has_open(process.pid, "ending"), draw.uniform(0, AFTER_S))


def _killed(lab: Lab, provider: ProviderProcess, kill: _Kill, findings: Findings) -> int | None:
    """Start, wait for the moment, kill; the calls in flight then. None: it ended before.

    It is stopped first, so that it cannot send while the provider is asked.
    """
    with lab.start() as process:
        while process.poll() is None and not kill.moment(process):
            time.sleep(LOOK_EVERY_S)
        time.sleep(kill.after_s)
        if process.poll() is not None:
            findings.seen.append(f"not killed ({kill.kind}): it had ended with {process.returncode}: {lab.told()}")
            return None
        process.send_signal(signal.SIGSTOP)
        in_flight = int(provider.stats()["in_flight"])
        process.send_signal(signal.SIGKILL)
        process.wait()
    findings.seen.append(f"killed ({kill.kind}) with {in_flight} in flight")
    return in_flight


def _to_the_end(lab: Lab) -> list[int]:
    codes: list[int] = []
    while len(codes) < ENDS_MAX and (not codes or codes[-1] != 0):
        with lab.start() as process:
            codes.append(process.wait())
    return codes


def _accepted(provider: ProviderProcess, rows: int) -> Moment:
    def reached(_: subprocess.Popen[bytes]) -> bool:
        time.sleep(0.05)  # asking costs the provider some of its core
        return bool(provider.stats()["accepted"] >= rows)

    return reached


def _freezes(home: Path) -> bool:
    """A run's folder stands and its record does not yet."""
    return any(not (folder / "run.json").exists() for folder in home.glob("runs/*") if folder.is_dir())


def _published(home: Path) -> int:
    return sum(1 for _ in home.glob("runs/*/journal/*.published"))


def _has_open(pid: int, name: str) -> bool:
    """Whether a process has a file of this name open."""
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.readlink(link).endswith(f"/{name}"):
                    return True
    return False
