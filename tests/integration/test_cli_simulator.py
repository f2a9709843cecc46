"""`batch-llm simulator` as a process, spoken to by the openai SDK."""

from __future__ import annotations

import signal

import openai
import pytest

from tests.integration.cli_lab import CommandLine, ended
from tests.integration.lab import Lab


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_serves_until_it_is_told_to_stop(lab: Lab, number: int) -> None:
    cli = CommandLine(lab)
    process = await cli.start("simulator", "--port", "0", "--requests-per-minute", "2", "--burst-s", "60")
    assert process.stdout is not None
    said_first, _, url = (await process.stdout.readline()).decode().strip().rpartition(" ")
    assert said_first == "simulator listening on"
    async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
        question = {"model": "simulator/small", "messages": [{"role": "user", "content": "hello"}]}
        for _ in range(2):
            answer = await client.chat.completions.create(**question)
            assert answer.choices[0].message.content
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(**question)
    process.send_signal(number)
    said = await ended(process)
    assert (said.code, said.out, said.err) == (0, "", "")
