"""Durable state: a slice's journal of raw answers, and the records of runs.

Belongs here: storing and finding again. Not here: what an entry means for a row (engine/rows.py).
"""

__all__: list[str] = []
