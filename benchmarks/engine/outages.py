"""The cases provider-down, dns-gone and disk-full: something is gone for a while, in the middle.

Belongs here: taking it away and giving it back. Not here: a provider that answers wrongly (faults.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engine.case import Findings, Scope
from benchmarks.engine.judge import Stats, paid_twice
from benchmarks.engine.lab import Lab, last_lines
from benchmarks.engine.provider_process import ProviderProcess, simulator
from benchmarks.engine.tables import sixty_tokens

__all__ = ["run_disk_full", "run_dns_gone", "run_provider_down"]

PER_MINUTE = 3_000
SETTINGS = {"requests_per_minute": PER_MINUTE, "latency_median_s": 0.3}
DOWN_S, DNS_S, QUICK_S = 60.0, 30.0, 20.0
DNS_AT_START_S = 10.0
ASKED_WITHIN_S = 120.0  # a client that never asks has another way to the provider
AGAIN_MAX = 5
LOOK_EVERY_S = 0.1
DONE = (0, 1)  # exit codes after which the same command would do nothing more
HOST = "llm.bench.invalid"
STOPPED = 3  # exit code: stopped early and resumable
DISK_BYTES = 64_000_000
JOURNAL_BYTES_PER_ROW = 500  # about, where only the size of files can be limited
ROOM_BESIDE_BYTES = 300_000  # for the frozen slices

NO_NAMES = '''"""Name resolution that can be taken away: while the file BENCH_NO_DNS exists, BENCH_HOST is unknown."""
import os, socket

_ask = socket.getaddrinfo


def getaddrinfo(host, *args, **kwargs):
    name = host.decode() if isinstance(host, bytes) else host
    if name == os.environ["BENCH_HOST"]:
        if os.path.exists(os.environ["BENCH_NO_DNS"]):
            with open(os.environ["BENCH_NO_DNS"], "a") as asked:
                asked.write(".")
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        host = "127.0.0.1"
    return _ask(host, *args, **kwargs)


socket.getaddrinfo = getaddrinfo
'''


def run_provider_down(scope: Scope) -> Findings:
    """The provider dies with calls in flight and comes back on the same port."""
    down_s = QUICK_S if scope.quick else DOWN_S
    lab, rows = _lab(scope)
    lives: list[Stats] = []
    with simulator(scope.folder / "simulator", **SETTINGS) as provider:
        lab.providers(provider.port, {"requests_per_minute": PER_MINUTE})

        def outage() -> None:
            lives.append(provider.stats(detail=True))
            provider.kill()
            time.sleep(down_s)
            provider.start()

        codes = _through(lab, provider, rows, outage)
        lives.append(provider.stats(detail=True))
    findings = _findings(lab, lives, codes)
    findings.figures["away_s"] = down_s
    return findings


def run_dns_gone(scope: Scope) -> Findings:
    """Names are not resolved when the command starts, and for a while in the middle, when all connections break too.

    In the middle a client may remember the address: the outage at the start is the one that nobody can avoid.
    """
    gone_s = QUICK_S if scope.quick else DNS_S
    lab, rows = _lab(scope)
    flag, site = scope.folder / "no-dns", scope.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(NO_NAMES, encoding="utf-8")
    lab.variables(PYTHONPATH=str(site), BENCH_NO_DNS=str(flag), BENCH_HOST=HOST)
    lives: list[Stats] = []
    lookups: list[float] = []
    with simulator(scope.folder / "simulator", **SETTINGS) as provider:
        lab.providers(provider.port, {"requests_per_minute": PER_MINUTE}, HOST)
        flag.touch()
        start = threading.Thread(target=_give_back, args=(flag, lookups), daemon=True)
        start.start()

        def outage() -> None:
            start.join()
            flag.touch()
            lives.append(provider.stats(detail=True))
            provider.kill()
            provider.start()
            time.sleep(gone_s)
            lookups.append(flag.stat().st_size)
            flag.unlink()

        codes = _through(lab, provider, rows, outage)
        lives.append(provider.stats(detail=True))
    findings = _findings(lab, lives, codes)
    findings.figures |= {"away_s": gone_s, "failed_lookups_at_start": lookups[0], "failed_lookups": sum(lookups)}
    if not lookups[0]:
        findings.trouble.append("no name was asked for while none was known: socket.getaddrinfo is not what resolves")
    return findings


def _give_back(flag: Path, lookups: list[float]) -> None:
    """Names are known again so long after the first one was asked for."""
    until_s = time.monotonic() + ASKED_WITHIN_S
    while not flag.stat().st_size and time.monotonic() < until_s:
        time.sleep(LOOK_EVERY_S)
    time.sleep(DNS_AT_START_S)
    lookups.append(flag.stat().st_size)
    flag.unlink()


def run_disk_full(scope: Scope) -> Findings:
    """The journal's disk is full in the middle; the user makes room and says the same again."""
    lab, rows = _lab(scope)
    with (
        simulator(scope.folder / "simulator", **SETTINGS) as provider,
        _disk(scope.folder / "disk", ROOM_BESIDE_BYTES + rows * JOURNAL_BYTES_PER_ROW // 2) as disk,
    ):
        lab.providers(provider.port, {"requests_per_minute": PER_MINUTE})
        lab.variables(BATCH_LLM_JOURNAL=str(scope.folder / "disk"))
        with lab.start("full", wrapped=disk.wrapped) as process:
            while process.poll() is None and provider.stats()["accepted"] < rows // 3:
                time.sleep(LOOK_EVERY_S)
            disk.fill()
            code = process.wait()
        told, before = lab.told("full", 1_000), provider.stats()
        disk.make_room()
        codes = _until_done(lab)
        lives: list[Stats] = [provider.stats(detail=True)]
        findings = _findings(lab, lives, codes)
    findings.seen.insert(0, f"exit {code} when full, after {before['accepted']} calls: {last_lines(told)}")
    findings.figures |= {
        "asked_before_full": before["accepted"],
        "exit_when_full": code,
        "stopped_clearly": float(code == STOPPED and "internal error" not in told and "Traceback" not in told),
        "paid_twice_beyond_in_flight": max(0, paid_twice(lives) - before["max_in_flight"]),
    }
    if code == 0:
        findings.trouble.append("the disk was not full before the command was done")
    return findings


def _lab(scope: Scope) -> tuple[Lab, int]:
    rows = scope.rows(4_000, 2_000)
    lab = Lab(scope.folder / "lab")
    lab.table(rows, sixty_tokens)
    lab.job()
    return lab, rows


def _through(lab: Lab, provider: ProviderProcess, rows: int, outage: Callable[[], None]) -> list[int]:
    """Run, with the outage when a third was asked, then the same command until it is done; the exit codes."""
    with lab.start() as process:
        while process.poll() is None and provider.stats()["accepted"] < rows // 3:
            time.sleep(LOOK_EVERY_S)
        outage()
        code = process.wait()
    return [code] if code in DONE else [code, *_until_done(lab)]


def _until_done(lab: Lab) -> list[int]:
    """The same command until there is nothing left that it would do (0, or 1: finished with failed rows)."""
    codes: list[int] = []
    while len(codes) < AGAIN_MAX and (not codes or codes[-1] not in DONE):
        with lab.start() as process:
            codes.append(process.wait())
    return codes


def _findings(lab: Lab, lives: list[Stats], codes: list[int]) -> Findings:
    found = lab.output()
    figures: dict[str, float] = {
        "rows_lost": found.lost,
        "rows_not_ok": found.expected - found.ok,
        "rows_duplicated": found.duplicated,
        "paid_twice": paid_twice(lives),
        "commands": len(codes),
        "rows": found.expected,
    }
    return Findings(figures, [f"exits {codes}: {lab.told()}"])


@dataclass(frozen=True, slots=True)
class _Disk:
    wrapped: tuple[str, ...]  # what to run the command under
    fill: Callable[[], None]
    make_room: Callable[[], None]


@contextmanager
def _disk(folder: Path, file_bytes: int) -> Iterator[_Disk]:
    """A folder that can be full: a file system in memory where we may mount one, filled with ballast.

    Else no file that the command writes may be larger than ``file_bytes``, and room is made by dropping that limit.
    """
    folder.mkdir()
    if os.geteuid() == 0 and _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "bench", str(folder)):
        ballast = folder / "ballast"
        try:
            yield _Disk((), lambda: _fill(ballast), ballast.unlink)
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=False)
        return
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        raise RuntimeError("disk-full needs root (to mount a small file system) or util-linux' prlimit")
    yield _Disk((prlimit, f"--fsize={file_bytes}"), lambda: None, lambda: None)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4_096)):
            pass


def _mount(*arguments: str) -> bool:
    with suppress(FileNotFoundError):
        return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0
    return False
