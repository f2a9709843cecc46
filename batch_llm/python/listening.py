"""The caller's listener beside our own.

Belongs here: what becomes of a listener that raises. Not here: what is shown (progress.py), the events (engine).
"""

from __future__ import annotations

import logging

from batch_llm.engine.events import Event, Listener

__all__ = ["Guest"]

_log = logging.getLogger(__name__)


class Guest:
    """A listener that cannot change the run: the first time it raises is logged, and it hears nothing more."""

    def __init__(self, listener: Listener) -> None:
        """``listener``: the caller's."""
        self._listener: Listener | None = listener

    def __call__(self, event: Event) -> None:
        """Hand on one event."""
        if self._listener is None:
            return
        try:
            self._listener(event)
        except Exception:  # noqa: BLE001  whatever it is: it must not count as a failed row or end the run
            self._listener = None
            _log.exception("the listener failed: it hears no more events of this run, which goes on")
