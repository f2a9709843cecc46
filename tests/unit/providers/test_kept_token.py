"""When a token is fetched, and what happens while that fails."""

from __future__ import annotations

import pytest

from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError
from batch_llm.providers.kept_token import BearerToken, KeptToken

AWAY = ProviderError(ErrorClass.CONNECTION, "the sign-in did not answer")
GONE = AuthenticationFailed("nobody is signed in")


class SignIn:
    """Gives out numbered tokens; its clock is set by the test."""

    def __init__(self, life_s: float) -> None:
        self.now_s = 1_000.0
        self.asked = 0
        self.life_s = life_s
        self.fails: Exception | None = None
        self.kept = KeptToken(self.fetch, lambda: self.now_s)

    async def fetch(self) -> BearerToken:
        self.asked += 1
        if self.fails is not None:
            raise self.fails
        return BearerToken(f"the-token-number-{self.asked}", self.now_s + self.life_s)

    async def number(self) -> str:
        return (await self.kept.headers())["Authorization"].removeprefix("Bearer the-token-number-")


async def test_a_token_is_fetched_again_five_minutes_before_it_expires() -> None:
    sign_in = SignIn(3_600)
    assert await sign_in.number() == "1"
    sign_in.now_s += 3_299
    assert await sign_in.number() == "1"
    sign_in.now_s += 1
    assert await sign_in.number() == "2"


async def test_a_short_token_is_not_fetched_for_every_call() -> None:
    """As a machine's own account gives out, from its cache, what will soon expire."""
    sign_in = SignIn(120)
    assert [await sign_in.number() for _ in range(5)] == ["1"] * 5
    sign_in.now_s += 60
    assert await sign_in.number() == "2"


@pytest.mark.parametrize("fails", [AWAY, GONE])
async def test_a_sign_in_that_fails_while_the_token_is_good_is_asked_again_later(fails: Exception) -> None:
    sign_in = SignIn(3_600)
    await sign_in.number()
    sign_in.now_s += 3_300
    sign_in.fails = fails
    assert [await sign_in.number() for _ in range(5)] == ["1"] * 5
    assert sign_in.asked == 2
    sign_in.now_s += 30
    sign_in.fails = None
    assert await sign_in.number() == "3"


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
