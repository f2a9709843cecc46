"""An answer was cut short: is it worth another try, and under which cap?

Belongs here: that decision, as a pure function. Not here: learning the automatic cap (tokens.py), what other failures
lead to (retry.py), asking again (pipeline.py).

A cap that the job declares is the user's: an answer cut there fails, for the same call would be cut again. The
automatic cap is ours: an answer cut there is asked once more without it, whatever the job says of re-asks. Where nobody
says how long the answer was, it was cut at the cap that was sent.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cut", "NextTry", "after_cut"]


@dataclass(frozen=True, slots=True)
class Cut:
    """An answer that ended with finish_reason `length`, and what came before it."""

    cap: int | None  # tokens, sent with the call; None: none was sent
    is_automatic: bool  # the cap was learned (`max_output_tokens: auto`), not declared
    output_tokens: int | None  # of this answer; None: its usage is unknown
    cuts: int  # answers of this row that were cut short, this one included
    re_asks_used: int  # answers of this row that use up a re-ask, this one included
    re_asks: int  # as the job allows


@dataclass(frozen=True, slots=True)
class NextTry:
    """Ask the row once more."""

    cap: int | None  # tokens; None: send none


def after_cut(cut: Cut) -> NextTry | None:
    """The next try; None: the row fails as truncated."""
    may_re_ask = cut.re_asks_used <= cut.re_asks
    if cut.cap is None:
        return NextTry(None) if may_re_ask and cut.cuts <= 1 else None
    was_met = cut.output_tokens is None or cut.output_tokens >= cut.cap
    if cut.is_automatic:
        return NextTry(None) if may_re_ask or was_met else None
    return NextTry(cut.cap) if may_re_ask and not was_met else None
