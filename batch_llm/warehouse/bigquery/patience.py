"""How long a failing call is tried again, and with which pauses.

Belongs here: waiting. Not here: which failures pass by themselves (failures.py), jobs (jobs.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from batch_llm.errors import WarehouseError
from batch_llm.warehouse.bigquery.failures import FAILURES, Failure

__all__ = ["Patience", "Wait"]

PATIENCE_S = 600.0  # then the command ends; paid answers are in the journal, and the same command goes on
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0


class Patience:
    """Makes a call until it succeeds, fails for good, or has failed for ``limit_s`` seconds.

    The client takes it as ``retry=``: it is called with the function that sends one request.
    """

    def __init__(
        self,
        limit_s: float = PATIENCE_S,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``monotonic`` and ``sleep``: seconds, as in `time`."""
        self.limit_s = limit_s
        self.monotonic = monotonic
        self.sleep = sleep

    def __call__(self, send: Callable[..., Any], on_error: object = None) -> Callable[..., Any]:
        """The same function, patient. What is no passing failure is raised as it is."""

        def patient(*args: Any, **kwargs: Any) -> Any:
            wait = self.begin()
            while True:
                try:
                    return send(*args, **kwargs)
                except FAILURES as error:
                    if not Failure.of(error).passing or not wait.pause():
                        raise

        return patient

    def begin(self) -> Wait:
        """Pauses for one piece of work; the time counts from the first."""
        return Wait(self)


class Wait:
    """Growing pauses, with jitter, until the patience is used up: so long after the first failure, not after the start.

    Work may take hours; only failing is limited.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._ends_at_s: float | None = None
        self._pause_s = _FIRST_PAUSE_S

    def pause(self) -> bool:
        """Sleep a while; False, at once, when it has been long enough."""
        now_s = self._patience.monotonic()
        if self._ends_at_s is None:
            self._ends_at_s = now_s + self._patience.limit_s
        left_s = self._ends_at_s - now_s
        if left_s <= 0:
            return False
        self._patience.sleep(min(left_s, self._pause_s * random.uniform(0.5, 1.0)))
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        return True

    def pause_or_raise(self, what: str, failure: Failure) -> None:
        """Sleep a while. Raises `WarehouseError` when it has been long enough."""
        if not self.pause():
            raise WarehouseError(
                f"{what}: still failing after {self._patience.limit_s:.0f} s: {failure}. "
                "Nothing that was paid is lost: run the job again later"
            )
