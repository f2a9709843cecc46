"""Watching a run: what any door shows of it while it goes.

Belongs here: the state gathered from the engine's events, the words for it, when a line is due. Not here: the events
(engine/events.py), drawing on one kind of screen (cli/panel.py, python/notebook.py).
"""

__all__: list[str] = []
