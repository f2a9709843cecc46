"""Providers: one small folder per API, what several need beside them.

Belongs here: an API's JSON and what its errors mean. Not here: trying again (engine/retry.py), pacing (limiter).
"""

__all__: list[str] = []
