"""The answer index against a plain model of it: users, slices, processes that die, runs that are forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from batch_llm.journal import answer_entries, answer_index
from batch_llm.journal.answer_index import Answered, AnswerIndex, Claimed, Found, Mine, Slice, Theirs
from tests.search import examples

HASHES = [f"{first:016x}{5:016x}" for first in (0, 1, 2**63 - 1, 2**63, 2**64 - 1, 7, 8, 9)]
A, B = Slice("run-a", 0), Slice("run-b", 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "answers.sqlite"


@pytest.fixture
def index(path: Path) -> Iterator[AnswerIndex]:
    with_user = AnswerIndex(path, "alice", pytest.fail)
    yield with_user
    with_user.close()


def owners(claimed: list[Claimed]) -> list[Slice | None]:
    return [one.owner if isinstance(one, Theirs) else None for one in claimed]


def test_the_first_who_asks_gets_it_and_the_next_hears_who(index: AnswerIndex) -> None:
    assert index.claim(HASHES[:2], A) == [Mine(), Mine()]
    assert owners(index.claim(HASHES[1:3], B)) == [A, None]


def test_a_look_says_what_is_answered_and_claims_nothing(index: AnswerIndex, path: Path) -> None:
    assert index.known(HASHES[:2]) == set()
    assert not path.exists()
    index.claim(HASHES[:2], A)
    index.answered([Answered(HASHES[0], A, 7)])
    assert index.known(HASHES[:3]) == {HASHES[0]}, "what is being asked has no answer yet"
    assert owners(index.claim([HASHES[2]], B)) == [None]
    other = AnswerIndex(path, "bob", pytest.fail)
    assert other.known(HASHES[:3]) == set()
    other.close()
    index.forget(A.run_id)
    assert index.known(HASHES[:3]) == set()


def test_an_identical_row_further_down_waits_for_the_first(index: AnswerIndex) -> None:
    assert owners(index.claim([HASHES[0], HASHES[1], HASHES[0]], A)) == [None, None, A]
    assert owners(index.claim([HASHES[0]], A)) == [A], "also in a later call: this opening asks it already"


def test_an_answer_is_found_where_it_was_said_to_be(index: AnswerIndex) -> None:
    index.claim(HASHES[:1], A)
    index.answered([Answered(HASHES[0], A, 2**40)])
    assert index.claim(HASHES[:1], B) == [Found(A, 2**40)]
    assert isinstance(index.claim(HASHES[:1], B)[0], Found)


def test_a_resumed_slice_asks_again_what_its_killed_process_asked(index: AnswerIndex, path: Path) -> None:
    index.claim(HASHES[:2], A)
    resumed = AnswerIndex(path, "alice", pytest.fail)
    assert resumed.claim(HASHES[:1], A) == [Mine()]
    assert owners(resumed.claim(HASHES[:1], A)) == [A]
    resumed.close()


def test_a_dead_process_is_taken_over_by_one_and_never_after_it_came_back(index: AnswerIndex, path: Path) -> None:
    index.claim(HASHES[:2], A)
    seen = index.claim(HASHES[:2], B)
    dead = seen[0]
    assert isinstance(dead, Theirs)
    assert index.take_over(HASHES[0], dead, B)
    assert not index.take_over(HASHES[0], dead, Slice("run-c", 0)), "somebody was quicker"
    again = AnswerIndex(path, "alice", pytest.fail)
    again.claim(HASHES[1:2], A)
    assert not index.take_over(HASHES[1], dead, B), "the slice was opened again and asks it itself"
    again.close()


def test_what_is_released_can_be_claimed(index: AnswerIndex) -> None:
    index.claim(HASHES[:3], A)
    index.release(A, HASHES[:1])
    assert owners(index.claim(HASHES[:3], B)) == [None, A, A]
    index.release(A)
    assert owners(index.claim(HASHES[:3], B)) == [B, None, None]


def test_a_hit_that_does_not_hold_is_asked_once_and_replaced(index: AnswerIndex) -> None:
    index.answered([Answered(HASHES[0], A, 5)])
    assert index.wrong(HASHES[0], Found(A, 5), B)
    assert not index.wrong(HASHES[0], Found(A, 5), Slice("run-c", 0))
    assert owners(index.claim(HASHES[:1], A)) == [B]
    index.answered([Answered(HASHES[0], B, 6)])
    assert not index.wrong(HASHES[0], Found(A, 5), A), "meanwhile it leads elsewhere"
    assert index.claim(HASHES[:1], A) == [Found(B, 6)]


def test_answers_told_again_take_no_room(index: AnswerIndex, path: Path) -> None:
    answers = [Answered(f"{number:016x}{0:016x}", A, number) for number in range(2000)]
    index.answered(answers)
    before = index.stats()
    for _ in range(5):
        index.answered(answers, replayed=True)
    assert index.stats() == before


def test_users_never_see_each_other(index: AnswerIndex, path: Path) -> None:
    index.claim(HASHES, A)
    index.answered([Answered(HASHES[0], A, 1)])
    other = AnswerIndex(path, "bob", pytest.fail)
    assert other.claim(HASHES, B) == [Mine()] * len(HASHES)
    assert other.stats().answers == 0
    other.close()


def test_a_forgotten_run_leaves_nothing_in_any_file(index: AnswerIndex, path: Path) -> None:
    gone = f"{0x1122334455667788:016x}{0x99AABBCCDDEEFF00:016x}"
    index.answered([Answered(gone, Slice("run-to-forget", 1), 77)])
    index.answered([Answered(HASHES[0], A, 3)])
    index.claim(HASHES[1:2], Slice("run-to-forget", 2))
    index.forget("run-to-forget")
    assert index.claim([gone, *HASHES[:2]], B) == [Mine(), Found(A, 3), Mine()]
    index.release(B)
    index.forget("run-b")
    key = int(gone[:16], 16) - (1 << 63)
    for file in path.parent.iterdir():
        content = file.read_bytes()
        assert b"run-to-forget" not in content, file
        assert key.to_bytes(8, "big", signed=True) not in content, file
        assert key.to_bytes(8, "little", signed=True) not in content, file


def test_a_long_tail_is_merged_and_every_process_finds_all(
    index: AnswerIndex, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_entries, "TAIL_ROWS", 50)
    monkeypatch.setattr(answer_entries, "MERGED_AT_ONCE", 7)
    monkeypatch.setattr(answer_index, "MERGED_AT_ONCE", 7)
    other = AnswerIndex(path, "alice", pytest.fail)
    hashes = [f"{(number * 0x9E3779B97F4A7C15) % 2**64:016x}{number:016x}" for number in range(1000)]
    for number, request_hash in enumerate(hashes):
        (index, other)[number % 2].answered([Answered(request_hash, A, number)])
    for one in (index, other):
        assert one.claim(hashes, B) == [Found(A, number) for number in range(1000)]
        assert one.stats().answers == 1000
    other.close()


class AgainstModel(RuleBasedStateMachine):
    """Two processes of each of two users, with the same requests; a slice is open in one process at most."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.processes = [self.process(user) for user in (0, 0, 1, 1)]
        self.slices = {0: [Slice("r0", 0), Slice("r0", 1), Slice("r1", 0)], 1: [Slice("r2", 0), Slice("r3", 0)]}
        self.holder: dict[Slice, int] = {}  # the process that has it open
        self.opening: dict[Slice, int] = {}
        self.openings = 0
        self.answers: dict[tuple[int, str], tuple[Slice, int]] = {}
        self.claims: dict[tuple[int, str], tuple[Slice, int]] = {}
        self.earlier: dict[tuple[int, str], list[tuple[Slice, int]]] = {}  # all answers that were ever told
        self.disowned: dict[tuple[int, str], list[Slice]] = {}  # who said that an answer does not hold
        self.unsure: set[tuple[int, str]] = set()  # what was said last is forgotten: an earlier answer may be found
        self.seen: list[tuple[int, str, Theirs, int]] = []

    def process(self, user: int) -> AnswerIndex:
        return AnswerIndex(Path(self.folder.name) / "answers.sqlite", f"user {user}", pytest.fail)

    def teardown(self) -> None:
        for user in (0, 1):
            stats = self.processes[2 * user].stats()
            sure, unsure = (sum(at[0] == user for at in these) for these in (self.answers, self.unsure))
            assert sure <= stats.answers <= sure + unsure
            assert stats.claims == sum(at[0] == user for at in self.claims)
        for process in self.processes:
            process.close()
        self.folder.cleanup()

    def open(self, process: int, pick: int) -> Slice | None:
        slices = self.slices[process // 2]
        owner = slices[pick % len(slices)]
        if self.holder.setdefault(owner, process) != process:
            return None
        if owner not in self.opening:
            self.openings += 1
            self.opening[owner] = self.openings
        return owner

    def drop(self, owner: Slice) -> None:
        self.holder.pop(owner, None)
        self.opening.pop(owner, None)

    process_number = st.integers(0, 3)
    pick = st.integers(0, 5)
    some_hashes = st.lists(st.sampled_from(HASHES), min_size=1, max_size=6)

    @rule(process=process_number, pick=pick, hashes=some_hashes)
    def claim(self, process: int, pick: int, hashes: list[str]) -> None:
        owner, user = self.open(process, pick), process // 2
        if owner is None:
            return
        said = self.processes[process].claim(hashes, owner)
        for request_hash, one in zip(hashes, said, strict=True):
            asked = self.claims.get((user, request_hash))
            if (user, request_hash) in self.unsure and isinstance(one, Found):
                assert tuple(one) in self.earlier[user, request_hash]
                self.answers[user, request_hash] = (one.owner, one.place)
            self.unsure.discard((user, request_hash))
            if (user, request_hash) in self.answers:
                assert isinstance(one, Found)
                assert tuple(one) == self.answers[user, request_hash]
            elif asked is not None and (asked[0] != owner or asked[1] == self.opening[owner]):
                assert isinstance(one, Theirs)
                assert one.owner == asked[0]
                self.seen.append((user, request_hash, one, asked[1]))
            else:
                assert isinstance(one, Mine)
                self.claims[user, request_hash] = (owner, self.opening[owner])

    @rule(process=process_number, pick=pick, hashes=some_hashes, place=st.integers(0, 2**40), replayed=st.booleans())
    def answered(self, process: int, pick: int, hashes: list[str], place: int, replayed: bool) -> None:
        owner, user = self.open(process, pick), process // 2
        if owner is None:
            return
        answers = [Answered(request_hash, owner, place) for request_hash in hashes]
        self.processes[process].answered(answers, replayed=replayed)
        for request_hash in hashes:
            self.earlier.setdefault((user, request_hash), []).append((owner, place))
            if replayed and (user, request_hash) in self.unsure:
                continue
            self.unsure.discard((user, request_hash))
            if not (replayed and (user, request_hash) in self.answers):
                self.answers[user, request_hash] = (owner, place)
                self.claims.pop((user, request_hash), None)

    @rule(process=process_number, pick=pick, hashes=some_hashes)
    def release_some(self, process: int, pick: int, hashes: list[str]) -> None:
        owner, user = self.open(process, pick), process // 2
        if owner is None:
            return
        self.processes[process].release(owner, hashes)
        for request_hash in hashes:
            if self.claims.get((user, request_hash)) == (owner, self.opening[owner]):
                del self.claims[user, request_hash]

    @rule(process=process_number, pick=pick)
    def close_slice(self, process: int, pick: int) -> None:
        owner, user = self.open(process, pick), process // 2
        if owner is None:
            return
        self.processes[process].release(owner)
        mine = (owner, self.opening[owner])
        self.claims = {at: claim for at, claim in self.claims.items() if at[0] != user or claim != mine}
        self.drop(owner)

    @rule(process=process_number)
    def kill(self, process: int) -> None:
        self.processes[process].close()
        self.processes[process] = self.process(process // 2)
        for owner in [owner for owner, holder in self.holder.items() if holder == process]:
            self.drop(owner)

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), process=process_number, pick=pick)
    def take_over(self, data: st.DataObject, process: int, pick: int) -> None:
        user, request_hash, theirs, opening = data.draw(st.sampled_from(self.seen))
        owner = self.open(process, pick)
        if owner is None or user != process // 2:
            return
        claim = self.claims.get((user, request_hash))
        if (user, request_hash) in self.unsure:
            return
        expected = claim is not None and claim[1] == opening and (user, request_hash) not in self.answers
        assert self.processes[process].take_over(request_hash, theirs, owner) is expected
        if expected:
            self.claims[user, request_hash] = (owner, self.opening[owner])

    @precondition(lambda self: self.answers)
    @rule(data=st.data(), pick=pick, second=st.booleans())
    def wrong(self, data: st.DataObject, pick: int, second: bool) -> None:
        user, request_hash = data.draw(st.sampled_from(sorted(self.answers)))
        process = 2 * user + second
        owner = self.open(process, pick)
        if owner is None:
            return
        found = Found(*self.answers[user, request_hash])
        expected = (user, request_hash) not in self.claims
        assert self.processes[process].wrong(request_hash, found, owner) is expected
        if expected:
            del self.answers[user, request_hash]
            self.disowned.setdefault((user, request_hash), []).append(owner)
            self.claims[user, request_hash] = (owner, self.opening[owner])

    @rule(run_id=st.sampled_from(["r0", "r1", "r2", "r3", "never"]), process=process_number)
    def forget(self, run_id: str, process: int) -> None:
        if any(owner.run_id == run_id for owner in self.holder):
            return
        self.processes[process].forget(run_id)
        self.unsure.update(at for at, answer in self.answers.items() if answer[0].run_id == run_id)
        self.answers = {at: answer for at, answer in self.answers.items() if at not in self.unsure}
        for at, said in self.disowned.items():
            if any(owner.run_id == run_id for owner in said) and at not in self.answers:
                self.unsure.add(at)
        self.earlier = {at: [one for one in told if one[0].run_id != run_id] for at, told in self.earlier.items()}
        self.claims = {at: claim for at, claim in self.claims.items() if claim[0].run_id != run_id}


def test_it_does_what_the_model_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a tail so short that answers are merged all the time."""
    monkeypatch.setattr(answer_entries, "TAIL_ROWS", 4)
    monkeypatch.setattr(answer_entries, "MERGED_AT_ONCE", 2)
    monkeypatch.setattr(answer_index, "MERGED_AT_ONCE", 2)
    run_state_machine_as_test(
        AgainstModel, settings=settings(max_examples=examples(15), stateful_step_count=40, deadline=None)
    )
