"""The cases faults-5, faults-10 and together: what is kept when a provider misbehaves, or two commands run at once.

Belongs here: these runs, and comparing with a run without faults. Not here: a provider, network or disk that is gone
(outages.py).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.engine.case import Findings, Scope
from benchmarks.engine.judge import paid_twice, unanswered
from benchmarks.engine.lab import SCHEMA, Lab, last_lines
from benchmarks.engine.provider_process import simulator
from benchmarks.engine.tables import sixty_tokens

__all__ = ["run_faults", "run_together"]

LATENCY = {"latency_median_s": 0.2}
DRIP_S = 2.0  # slow, and still an answer worth waiting for
IN_FLIGHT = 64


def run_faults(share: float) -> Callable[[Scope], Findings]:
    """``share`` of the attempts are spoiled, all kinds mixed."""
    return lambda scope: _faults(scope, share)


def _faults(scope: Scope, share: float) -> Findings:
    rows = scope.rows(2_000, 1_000)
    right, spoiled = Lab(scope.folder / "right"), Lab(scope.folder / "spoiled")
    stats, ended = {}, {}
    for lab, settings in ((right, {}), (spoiled, {"faults": share, "drip_s": DRIP_S, "fault_retry_after_s": 0.5})):
        lab.table(rows, sixty_tokens)
        lab.job(schema=SCHEMA)
        with simulator(scope.folder / f"simulator-{lab.folder.name}", **LATENCY, **settings) as provider:
            lab.providers(provider.port)
            ended[lab] = lab.run()
            stats[lab] = provider.stats(detail=True)
    told = ended[spoiled]
    findings = Findings(
        seen=[f"exit {told.returncode}: {last_lines(told.stderr)}", f"faults: {stats[spoiled]['faults']}"]
    )
    if ended[right].returncode != 0 or told.returncode not in (0, 1):
        findings.trouble.append(f"exits: without faults {ended[right].returncode}, with {told.returncode}")
        return findings
    found = spoiled.output()
    findings.figures = {
        "rows_lost": found.lost,
        "rows_duplicated": found.duplicated,
        "wrong_kept": spoiled.wrong_rows(right, tuple(SCHEMA)),
        "failed_wrongly": max(0, found.failed - unanswered([stats[spoiled]])),
        "failed": found.failed,
        "paid_twice": paid_twice([stats[spoiled]]),
        "closed_before_answer": stats[spoiled]["closed_before_answer"],
        "times_without_faults": told.wall_s / ended[right].wall_s,
        "rows": rows,
    }
    return findings


def run_together(scope: Scope) -> Findings:
    """The same command twice at once."""
    rows = scope.rows(4_000, 2_000)
    lab = Lab(scope.folder / "lab")
    lab.table(rows, sixty_tokens)
    lab.job()
    with simulator(scope.folder / "simulator", **LATENCY) as provider:
        lab.providers(provider.port)
        with ExitStack() as stack:
            processes = {name: stack.enter_context(lab.start(name)) for name in ("first", "second")}
            codes = {name: process.wait() for name, process in processes.items()}
        stats = provider.stats(detail=True)
    found = lab.output()
    return Findings(
        {
            "rows_lost": found.lost,
            "rows_not_ok": found.expected - found.ok,
            "rows_duplicated": found.duplicated,
            "paid_twice": paid_twice([stats]),
            "ended_badly": sum(code not in (0, 3) for code in codes.values()),
            "finished": sum(code == 0 for code in codes.values()),
            "most_in_flight": stats["max_in_flight"],
            "rows": rows,
        },
        [f"{name}: exit {code}: {lab.told(name)}" for name, code in codes.items()],
    )
