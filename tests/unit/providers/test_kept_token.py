"""When a token is fetched, and what happens while that fails."""

from __future__ import annotations

import asyncio

import pytest

from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError
from batch_llm.providers.kept_token import BearerToken, KeptToken

AWAY = ProviderError(ErrorClass.CONNECTION, "the sign-in did not answer")
GONE = AuthenticationFailed("nobody is signed in")


class SignIn:
    """Gives out numbered tokens; its clock is set by the test."""

    def __init__(self, life_s: float, *, hangs: bool = False) -> None:
        self.now_s = 1_000.0
        self.asked = 0
        self.life_s = life_s
        self.fails: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.kept = KeptToken(self.fetch, lambda: self.now_s, (0.0, 0.0) if hangs else (60.0, 15.0))

    async def fetch(self) -> BearerToken:
        self.asked += 1
        await self.answers.wait()
        if self.fails is not None:
            raise self.fails
        return BearerToken(f"the-token-number-{self.asked}", self.now_s + self.life_s)

    async def number(self) -> str:
        return (await self.kept.headers())["Authorization"].removeprefix("Bearer the-token-number-")

    async def next_number(self) -> str:
        """After what the call before this one began has ended."""
        await self.number()
        for _ in range(5):
            await asyncio.sleep(0)
        return await self.number()


async def test_a_token_is_fetched_again_five_minutes_before_it_expires() -> None:
    sign_in = SignIn(3_600)
    assert await sign_in.number() == "1"
    sign_in.now_s += 3_299
    assert await sign_in.number() == "1"
    sign_in.now_s += 1
    assert await sign_in.next_number() == "2"


async def test_a_short_token_is_not_fetched_for_every_call() -> None:
    """As a machine's own account gives out, from its cache, what will soon expire."""
    sign_in = SignIn(120)
    assert [await sign_in.number() for _ in range(5)] == ["1"] * 5
    sign_in.now_s += 60
    assert await sign_in.next_number() == "2"


@pytest.mark.parametrize("fails", [AWAY, GONE])
async def test_a_sign_in_that_fails_while_the_token_is_good_is_asked_again_later(fails: Exception) -> None:
    sign_in = SignIn(3_600)
    await sign_in.number()
    sign_in.now_s += 3_300
    sign_in.fails = fails
    assert [await sign_in.next_number() for _ in range(5)] == ["1"] * 5
    assert sign_in.asked == 2
    sign_in.now_s += 30
    sign_in.fails = None
    assert await sign_in.next_number() == "3"


@pytest.mark.parametrize("fails", [AWAY, GONE])
async def test_without_a_good_token_the_failure_is_told(fails: Exception) -> None:
    sign_in = SignIn(3_600)
    await sign_in.number()
    sign_in.fails = fails
    sign_in.now_s += 3_590
    assert await sign_in.number() == "1"
    sign_in.now_s += 10
    with pytest.raises(type(fails)):
        await sign_in.number()


async def test_a_token_that_has_expired_already_is_not_kept() -> None:
    sign_in = SignIn(-1)
    assert [await sign_in.number(), await sign_in.number()] == ["1", "2"]


async def test_a_sign_in_that_hangs_holds_nobody_up_while_the_token_is_good() -> None:
    """One is under way, however many calls want it, and it goes on when they are given up."""
    sign_in = SignIn(3_600)
    await sign_in.number()
    sign_in.answers.clear()
    sign_in.now_s += 3_300
    assert await asyncio.gather(*(sign_in.number() for _ in range(20))) == ["1"] * 20
    sign_in.now_s += 300
    calls = [asyncio.create_task(sign_in.number()) for _ in range(20)]
    await asyncio.sleep(0)
    for call in calls[:19]:
        call.cancel()
    sign_in.answers.set()
    assert await calls[19] == "2"
    assert sign_in.asked == 2


async def test_a_sign_in_that_does_not_end_is_a_lost_connection_and_nothing_was_paid() -> None:
    sign_in = SignIn(3_600, hangs=True)
    sign_in.answers.clear()
    for _ in range(3):
        with pytest.raises(ProviderError, match="did not answer within") as error:
            await sign_in.number()
        assert (error.value.error_class, error.value.maybe_paid) == (ErrorClass.CONNECTION, False)
    assert sign_in.asked == 1
    sign_in.answers.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert await sign_in.number() == "1"
