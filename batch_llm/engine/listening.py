"""Telling a run's events to whoever listens, whatever becomes of that.

Belongs here: what becomes of a listener that raises. Not here: the events (events.py), what is shown of them (each
door).
"""

from __future__ import annotations

import logging

from batch_llm.engine.events import Event, Listener

__all__ = ["Guard"]

_log = logging.getLogger(__name__)


class Guard:
    """Hands events to a listener that cannot change the run: the first time it raises is logged, the run goes on.

    A row's failure, a budget's mark and a slice's end are told while they happen: what is raised there would be taken
    for a fault of the row. What is no `Exception` (Ctrl-C, a cancellation) goes through.
    """

    def __init__(self, listener: Listener, *, is_guest: bool = False) -> None:
        """``is_guest``: a listener of the caller's own, which hears nothing more once it raised."""
        self._listener: Listener | None = listener
        self._is_guest = is_guest
        self._is_logged = False

    def __call__(self, event: Event) -> None:
        """Hand on one event."""
        if self._listener is None:
            return
        try:
            self._listener(event)
        except Exception:  # noqa: BLE001  whatever it is: it must not count as a failed row or end the run
            if self._is_guest:
                self._listener = None
            if not self._is_logged:
                self._is_logged = True
                heard = ": it hears no more of it" if self._is_guest else ""
                _log.exception("the listener failed; the run goes on%s", heard)
