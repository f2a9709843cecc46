"""Faults that tests inject: which call fails, how, before or after its work.

Belongs here: choosing. Not here: doing it to a connection (server.py).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

__all__ = ["Fault", "Faults"]

Kind = Literal["http", "body", "reset", "delay", "job", "token"]


@dataclass(frozen=True)
class Fault:
    """One rule.

    `http`: an error with ``status``, ``reason``, ``message`` · `body`: ``status`` with ``body`` as it is, no JSON ·
    `reset`: the connection is cut · `delay`: the answer comes ``delay_s`` later · `job`: the job of this call ends with
    ``reason`` and ``message``, its work not done · `token`: all tokens given so far expire, then the call is done.
    Over gRPC an `http` is the status code of its reason, `body` and `reset` are UNAVAILABLE.
    """

    operation: str = (
        "*"  # a pattern of operations: "tables.get", "jobs.insert:load", "jobs.*"; tests/bigquery_server/routes.py
    )
    kind: Kind = "http"
    when: Literal["before", "after"] = "before"  # the call's work; "after" is the lost answer
    calls: tuple[int, ...] = ()  # which of the calls that fit the pattern, from 1; none: each
    share: float = 1.0  # of those, at random
    seed: int = 0
    status: int | None = None  # the reason's own
    reason: str = "backendError"
    message: str = "injected"
    body: str = "<html>502 Bad Gateway</html>"
    delay_s: float = 0.0
    messages: int = 0  # of storage.readRows, before: so many go out first


class Faults:
    """The rules in force, each with its count of calls."""

    def __init__(self) -> None:
        self.put(())

    def put(self, rules: tuple[Fault, ...]) -> None:
        """These rules from now on, counting from 1."""
        self._rules = [(rule, random.Random(rule.seed)) for rule in rules]
        self._counts = [0] * len(rules)

    def of(self, operation: str) -> list[Fault]:
        """What happens to this call; it is counted."""
        return [rule for place, (rule, _) in enumerate(self._rules) if self._hit(place, operation)]

    def _hit(self, place: int, operation: str) -> bool:
        rule, chance = self._rules[place]
        if not fnmatchcase(operation, rule.operation):
            return False
        self._counts[place] += 1
        if rule.calls and self._counts[place] not in rule.calls:
            return False
        return rule.share >= 1.0 or chance.random() < rule.share
