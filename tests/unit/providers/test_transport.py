"""What one POST does, whatever it carries: a real server on a free port answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from batch_llm.providers.base import Phase, Sending
from batch_llm.providers.openai.refusals import refusal
from batch_llm.providers.transport import Connection


async def test_while_a_call_signs_in_it_says_so() -> None:
    """Whoever ends it then knows that nothing was sent."""
    signed = asyncio.Event()

    async def sign() -> Mapping[str, str]:
        await signed.wait()
        return {}

    connection, sending = Connection({}, refusal, sign), Sending()
    signed.set()
    async with connection:
        signed.clear()
        call = asyncio.create_task(connection.post("http://127.0.0.1:9/", b"{}", sending=sending))
        await asyncio.sleep(0)
        assert sending.phase is Phase.SIGN_IN
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert sending.phase is Phase.SIGN_IN
