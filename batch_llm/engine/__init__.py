"""The engine: reads rows, asks, journals, retries, publishes; knows protocols only.

Belongs here: what happens to a row, and in which order. Not here: which implementation serves (wiring.py), showing
(cli).
"""

__all__: list[str] = []
