"""What plays Dagster's daemon in tests: it evaluates sensors and executes what they request.

Belongs here: ticks and run keys. Not here: assertions, the real daemon (dagster_server.py).
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from tests.integration.dagster_lab import CodeLocation

__all__ = ["Daemon"]


class Daemon:
    """Evaluates sensors and executes what they request, each run key once, like the real one."""

    def __init__(self, location: CodeLocation, instance: dg.DagsterInstance) -> None:
        self.location = location
        self.instance = instance
        self.cursors: dict[str, str | None] = {}
        self.seen: set[tuple[str, str]] = set()
        self.skipped: str | None = None
        self.shown: list[dg.AssetKey] = []  # of the newest tick

    def tick(self, name: str) -> list[dg.RunRequest]:
        """One evaluation; the new requests."""
        return self.together(name)[name]

    def together(self, *names: str) -> dict[str, list[dg.RunRequest]]:
        """One evaluation of each, in one code server; the new requests."""
        defs = self.location.definitions()
        return {name: self._tick(defs, name) for name in names}

    def _tick(self, defs: dg.Definitions, name: str) -> list[dg.RunRequest]:
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(name),
            repository_def=defs.get_repository_def(),
            resources={"settings": self.location.settings_resource},
        ) as context:
            result: Any = defs.resolve_sensor_def(name)(context)
        if isinstance(result, dg.SkipReason):
            self.skipped = result.skip_message
            return []
        self.skipped = result.skip_reason.skip_message if result.skip_reason is not None else None
        self.shown = [event.asset_key for event in result.asset_events]
        if result.cursor is not None:
            self.cursors[name] = result.cursor
        fresh = [request for request in result.run_requests or [] if (name, str(request.run_key)) not in self.seen]
        self.seen.update((name, str(request.run_key)) for request in fresh)
        return fresh

    def run(self, request: dg.RunRequest, job: str | None = None) -> dg.ExecuteInProcessResult:
        """Execute a request."""
        return self.location.execute(
            self.instance,
            request.job_name or str(job),
            config=dict(request.run_config or {}),
            partition_key=request.partition_key,
            tags=dict(request.tags),
        )

    def work_off(self, *, ticks: int = 20) -> list[str]:
        """Dispatch until nothing is requested any more, in one code server; the names of the jobs that ran."""
        ran: list[str] = []
        defs = self.location.definitions()
        for _ in range(ticks):
            requests = self._tick(defs, "dispatch")
            if not requests:
                return ran
            for request in requests:
                self.run(request)
                ran.append(str(request.job_name))
        raise AssertionError(f"dispatch does not come to an end: {ran}")
