"""What paid answers teach about a question: how prompts are billed, how long answers are.

Belongs here: the evidence as plain sums, adding it up, reading figures out of it. Not here: counting with an encoding
(tokens.py), the file it lies in (journal/learned.py), what a plan makes of it (engine).

All evidence is whole numbers that are added, or the largest of their kind, so any number of processes may bring theirs
in any order. It is bounded: lengths are kept in classes each 5 % wider than the one before. It holds no text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

__all__ = ["AnswerEvidence", "Known", "Learned", "PromptEvidence"]

CLASS_WIDTH = 1.05  # of the classes of lengths: a quantile is at most so far off
LINE_AFTER_ANSWERS = 20  # before that, framing and text cannot be told apart
ALIKE = 0.05  # prompts whose lengths spread less than this around their mean are all alike
EXPLAINED = 0.5  # of how bills differ, prompts' lengths must explain so much for a line to be trusted
MOST_ANSWERS = 50_000  # a file keeps no more: what is learned later then counts for more
MOST = frozenset({"most_excess"})  # figures that are no sums
OLDER_ANSWERS = 20  # what an older wording of the question taught weighs at most so many answers


@dataclass(slots=True)
class PromptEvidence:
    """Prompts that were billed. Tokens are those of the bill."""

    answers: int = 0
    bytes: int = 0  # UTF-8, of everything that is billed as input
    tokens: int = 0
    bytes_squared: int = 0
    bytes_by_tokens: int = 0
    tokens_squared: int = 0
    cached_tokens: int = 0  # of `tokens`: read from the provider's cache
    counted: int = 0  # answers whose prompt had been counted with the model's own encoding
    excess_tokens: int = 0  # of those: billed minus counted
    most_excess: int = 0  # of any prompt: billed minus counted, or where it was not counted, minus its bytes

    def note(self, size_bytes: int, tokens: int, cached_tokens: int = 0, counted_tokens: int | None = None) -> None:
        """One more bill."""
        self.answers += 1
        self.bytes += size_bytes
        self.tokens += tokens
        self.bytes_squared += size_bytes * size_bytes
        self.bytes_by_tokens += size_bytes * tokens
        self.tokens_squared += tokens * tokens
        self.cached_tokens += cached_tokens
        excess = tokens - size_bytes
        if counted_tokens is not None:
            excess = tokens - counted_tokens
            self.counted += 1
            self.excess_tokens += excess
        if excess > self.most_excess:  # noqa: PLR1730  twice per row
            self.most_excess = excess

    def scaled(self, factor: float) -> PromptEvidence:
        """The same figures, with another weight."""
        return _scaled(self, factor)

    @property
    def line(self) -> tuple[float, float] | None:
        """(tokens of framing per prompt, tokens per byte) that fit best; None before any bill.

        Framing is below 0 where a part of each prompt, such as its schema, is not billed. It is 0 until enough was
        seen to tell it from the text, and where prompts are too alike to tell.
        """
        if not self.answers or not self.bytes:
            return None
        ratio = self.tokens / self.bytes
        spread = self.answers * self.bytes_squared - self.bytes**2
        if self.answers < LINE_AFTER_ANSWERS or spread < (ALIKE * self.bytes) ** 2:
            return 0.0, ratio
        together = self.answers * self.bytes_by_tokens - self.bytes * self.tokens
        slope = together / spread
        if slope <= 0 or together * slope < EXPLAINED * (self.answers * self.tokens_squared - self.tokens**2):
            return 0.0, ratio
        return (self.tokens - slope * self.bytes) / self.answers, slope

    @property
    def excess(self) -> float:
        """Tokens that are billed for a prompt beside what was counted for it: framing as the provider sees it."""
        return self.excess_tokens / self.counted if self.counted else 0.0

    @property
    def cached_share(self) -> float:
        """The part of the input that came from the provider's cache."""
        return self.cached_tokens / self.tokens if self.tokens else 0.0


@dataclass(slots=True)
class AnswerEvidence:
    """Answers that were paid for: good ones by their length, the others in all."""

    good: int = 0
    tokens: int = 0  # of the good ones
    tokens_squared: int = 0
    bad: int = 0  # paid and not good: each made the row be asked again, or fail
    bad_tokens: int = 0
    lengths: dict[int, int] = field(default_factory=dict)  # class of length: good answers in it

    def note(self, tokens: int, *, good: bool = True) -> None:
        """One more answer."""
        if not good:
            self.bad += 1
            self.bad_tokens += tokens
            return
        self.good += 1
        self.tokens += tokens
        self.tokens_squared += tokens * tokens
        number = _class_of(tokens)
        self.lengths[number] = self.lengths.get(number, 0) + 1

    @property
    def mean(self) -> float:
        """Tokens of a good answer."""
        return self.tokens / self.good if self.good else 0.0

    @property
    def variance(self) -> float:
        """Of the good answers' tokens."""
        return max(0.0, self.tokens_squared / self.good - self.mean**2) if self.good else 0.0

    @property
    def paid_per_good(self) -> float:
        """Answers that are paid for one good one: 1 without any re-ask."""
        return (self.good + self.bad) / self.good if self.good else 1.0

    @property
    def tokens_per_good(self) -> float:
        """Output tokens that are paid for one good answer, those of the bad ones included."""
        return (self.tokens + self.bad_tokens) / self.good if self.good else 0.0

    def quantile(self, share: float) -> int:
        """The length that this share of the good answers does not exceed, within 5 %; 0 without any."""
        wanted, seen = share * sum(self.lengths.values()), 0
        for number in sorted(self.lengths):
            seen += self.lengths[number]
            if seen >= wanted:
                return _longest_of(number)
        return 0


@dataclass(frozen=True, slots=True)
class Learned:
    """Everything that is known of one question to one model."""

    prompts: PromptEvidence = field(default_factory=PromptEvidence)
    answers: AnswerEvidence = field(default_factory=AnswerEvidence)

    def merge(self, other: Learned) -> Learned:
        """Both together; whichever comes first."""
        return Learned(_sum(self.prompts, other.prompts), _sum(self.answers, other.answers))

    def weighing(self, answers: int) -> Learned:
        """The same figures, as if learned from at most so many answers."""
        size = max(self.prompts.answers, self.answers.good + self.answers.bad)
        if size <= answers:
            return self
        return Learned(self.prompts.scaled(answers / size), _scaled(self.answers, answers / size))

    def bounded(self) -> Learned:
        """At most so much that what comes later still counts."""
        return self.weighing(MOST_ANSWERS // 2) if self.answers.good + self.answers.bad > MOST_ANSWERS else self

    def as_json(self) -> dict[str, Any]:
        """Plain numbers, with the quantiles for whoever reads the file."""
        answers = asdict(self.answers)
        answers["lengths"] = {str(number): count for number, count in sorted(self.answers.lengths.items())}
        quantiles = {f"p{share}": self.answers.quantile(share / 100) for share in (50, 90, 99)}
        return {"prompts": asdict(self.prompts), "answers": answers, "quantiles": quantiles}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Learned:
        """What `as_json` gave. Raises `ValueError`, `TypeError` or `KeyError` for anything else."""
        answers = dict(data["answers"])
        lengths = {int(number): int(count) for number, count in answers.pop("lengths").items()}
        prompts = PromptEvidence(**{name: int(value) for name, value in data["prompts"].items()})
        return cls(prompts, AnswerEvidence(**{name: int(value) for name, value in answers.items()}, lengths=lengths))


@dataclass(frozen=True, slots=True)
class Known:
    """What is known before a run."""

    own: Learned = field(default_factory=Learned)  # of this very question
    older: Learned = field(default_factory=Learned)  # of the wording before it, with little weight

    @property
    def both(self) -> Learned:
        """All of it, as if it were of one question."""
        return self.own.merge(self.older)

    def with_more(self, learned: Learned) -> Known:
        """When this very question taught so much more."""
        return Known(self.own.merge(learned), self.older)


_Evidence = TypeVar("_Evidence", PromptEvidence, AnswerEvidence)


@lru_cache(maxsize=4_096)
def _class_of(tokens: int) -> int:
    return math.floor(math.log(max(0, tokens) + 1) / math.log(CLASS_WIDTH))


def _longest_of(number: int) -> int:
    """The longest length of a class."""
    return max(0, math.ceil(CLASS_WIDTH ** (number + 1)) - 2)


def _sum(one: _Evidence, other: _Evidence) -> _Evidence:
    added = type(one)()
    for name in type(one).__dataclass_fields__:
        mine: Any = getattr(one, name)
        theirs: Any = getattr(other, name)
        if isinstance(mine, dict):
            setattr(added, name, {key: mine.get(key, 0) + theirs.get(key, 0) for key in sorted({*mine, *theirs})})
        elif name in MOST:
            setattr(added, name, max(mine, theirs))
        else:
            setattr(added, name, mine + theirs)
    return added


def _scaled(whole: _Evidence, factor: float) -> _Evidence:
    scaled = type(whole)()
    for name in type(whole).__dataclass_fields__:
        value = getattr(whole, name)
        if isinstance(value, dict):  # the rare long one is not forgotten
            setattr(scaled, name, {key: max(1, round(count * factor)) for key, count in value.items()})
        elif name in MOST:
            setattr(scaled, name, value)
        else:
            setattr(scaled, name, round(value * factor))
    return scaled
