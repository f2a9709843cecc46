"""Jobs with images, from table to table: sent, counted, billed, asked again when they change, kept nowhere."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from batch_llm import wiring
from batch_llm.engine import slice_work
from batch_llm.engine.planning import Plan
from batch_llm.job.load import DeclaredJob
from batch_llm.providers.base import Message
from batch_llm.providers.images import Image
from tests.contract.google_lab import token_endpoint
from tests.integration.engine_lab import answered_body, compatible_server, write_input
from tests.integration.lab import Lab
from tests.pictures import JPEG_1X1, png

ADDRESS = "https://nowhere.invalid/a.png"


def job(lab: Lab, images: list[str], **changes: Any) -> DeclaredJob:
    output = {"table": "out", "schema": {"tone": {"enum": ["calm", "tense"]}}}
    return lab.job(**{"images": images, "output": output, **changes})


async def planned(lab: Lab, images: list[str]) -> Plan:
    return await asyncio.to_thread(wiring.planner(lab.settings, job(lab, images)).plan)


def statuses(lab: Lab) -> list[tuple[str, str | None]]:
    return [(row["llm_status"], row["llm_error_class"]) for row in lab.rows()]


async def test_bytes_files_and_addresses_are_sent_and_billed(lab: Lab) -> None:
    """Tokens of text and image are what the simulator counted; an address is reserved at its dearest."""
    (lab.folder / "charts").mkdir()
    (lab.folder / "charts" / "a.png").write_bytes(png(1_024, 1_024))
    pictures = [png(64, 64), None, JPEG_1X1, png(300, 200)]
    files = ["charts/a.png", "charts/a.png", None, ADDRESS]
    write_input(lab, id=[0, 1, 2, 3], text=["a", "b", "c", "d"], picture=pictures, file=files)
    async with lab.simulator() as simulator:
        summary = await lab.run(job(lab, ["picture", "file"]))
        stats = simulator.stats()
    assert (summary.ok, summary.failed) == (4, 0)
    rows = lab.rows()
    assert [row["llm_input_tokens"] - 2 for row in rows] == [5 + 1_229, 1_229, 2, 84 + 1_229]
    assert sum(row["llm_input_tokens"] for row in rows) == stats["input_tokens"]
    assert summary.cost_usd == (Decimal(stats["input_tokens"]) + 2 * Decimal(stats["output_tokens"])) / 1_000_000


async def test_what_the_model_gets_is_text_and_then_the_images(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenAI's content parts."""
    write_input(lab, id=[0, 1], text=["a", "b"], picture=[png(2, 2), None], file=[ADDRESS, None])
    monkeypatch.setenv("LOCAL_KEY", "k")
    bodies: list[dict[str, Any]] = []

    async def good(_prompt: str) -> tuple[int, dict[str, Any]]:
        return 200, answered_body('{"tone": "calm"}')

    async with compatible_server(lab, good, bodies=bodies) as model:
        file = lab.folder / "providers.yaml"
        file.write_text(file.read_text().replace("openai_compatible", "openai"))
        summary = await lab.run(job(lab, ["picture", "file"], model=model))
    assert summary.ok == 2
    contents = [body["messages"][-1]["content"] for body in bodies]
    plain, parts = sorted(contents, key=lambda content: isinstance(content, list))
    assert plain == "Grade: b"
    url = "data:image/png;base64," + b64encode(png(2, 2)).decode()
    assert parts == [
        {"type": "text", "text": "Grade: a"},
        {"type": "image_url", "image_url": {"url": url, "detail": "high"}},
        {"type": "image_url", "image_url": {"url": ADDRESS, "detail": "high"}},
    ]


async def test_a_bad_image_fails_its_row_alone_and_before_any_call(lab: Lab) -> None:
    (lab.folder / "large.png").write_bytes(png(1, 1) + b"\0" * 20_000_000)
    files = [None, "missing.png", "/etc/passwd", "large.png", "gs://bucket/a.png"]
    write_input(lab, id=list(range(5)), text=["a"] * 5, file=files)
    async with lab.simulator() as simulator:
        summary = await lab.run(job(lab, ["file"]))
        assert simulator.stats()["accepted"] == 1
    assert (summary.ok, summary.failed) == (1, 4)
    template = ("failed", "template")
    assert statuses(lab) == [("ok", None), template, template, ("failed", "too_large"), template]
    said = " ".join(str(row["llm_error"]) for row in lab.rows())
    assert "passwd" not in said and "missing.png" not in said


async def test_a_changed_image_is_a_changed_row_and_an_equal_one_is_asked_once(lab: Lab) -> None:
    (lab.folder / "a.png").write_bytes(png(8, 8))
    (lab.folder / "same.png").write_bytes(png(8, 8))
    (lab.folder / "b.png").write_bytes(png(8, 8, grey=9))
    write_input(lab, id=[0, 1, 2], text=["a"] * 3, file=["a.png", "same.png", "b.png"])
    async with lab.simulator() as simulator:
        await lab.run(job(lab, ["file"]))
        assert simulator.stats()["accepted"] == 2  # two of them are the same question
        await lab.run(job(lab, ["file"]))
        assert simulator.stats()["accepted"] == 2
        (lab.folder / "b.png").write_bytes(png(8, 8, grey=10))
        plan = await planned(lab, ["file"])
        assert (plan.done, plan.changed) == (2, 1)
        await lab.run(job(lab, ["file"]))
        assert simulator.stats()["accepted"] == 3


async def test_the_plan_counts_them(lab: Lab) -> None:
    pictures = [png(1_024, 1_024, grey=each) for each in range(10)]
    write_input(lab, id=list(range(10)), text=["a"] * 10, picture=pictures)
    async with lab.simulator():
        with_images = await planned(lab, ["picture"])
        without = await planned(lab, [])
    assert with_images.image_tokens == 12_290 and without.image_tokens == 0
    assert with_images.input_tokens_p50 - without.input_tokens_p50 == 1_229
    assert "[image] image/png, 1,024 x 1,024 pixels" in with_images.prompts[0]


async def test_what_images_were_billed_teaches_nothing_about_text(lab: Lab) -> None:
    """After thirty bills of 1,229 tokens for an image and 25 for 100 bytes of text, text is planned as text."""
    rows = 30
    texts = [f"{each:093}" for each in range(rows)]
    write_input(lab, id=list(range(rows)), text=texts, picture=[png(1_024, 1_024)] * rows)
    async with lab.simulator():
        await lab.run(job(lab, ["picture"], cache="off"))
        plan = await planned(lab, [])
    assert plan.input_tokens_total == pytest.approx(25 * rows, rel=0.05)


async def test_a_budget_holds_with_what_images_cost(lab: Lab) -> None:
    write_input(lab, id=list(range(10)), text=["a"] * 10, picture=[png(1_024, 1_024, grey=each) for each in range(10)])
    async with lab.simulator(latency_median_s=0.05) as simulator:
        summary = await lab.run(job(lab, ["picture"], budget_usd="0.006"))
        stats = simulator.stats()
    billed = (Decimal(stats["input_tokens"]) + 2 * Decimal(stats["output_tokens"])) / 1_000_000
    assert 0 < summary.ok < 10 and summary.pending == 10 - summary.ok
    assert summary.cost_usd == billed <= Decimal("0.006")


async def test_rows_with_large_images_are_prepared_in_parts(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slice_work, "PREPARED_BYTES", 1_000)
    pictures = [png(8, 8, grey=each) + bytes(300) for each in range(20)]
    write_input(lab, id=list(range(20)), text=["a"] * 20, picture=pictures)
    async with lab.simulator() as simulator:
        summary = await lab.run(job(lab, ["picture"]))
        assert (summary.ok, simulator.stats()["accepted"]) == (20, 20)


async def test_no_byte_of_an_image_is_kept(lab: Lab) -> None:
    """Not in the journal, nor in any other file of the home but the frozen input; nor in an event."""
    noise = bytes(range(256)) * 4
    write_input(lab, id=[0, 1], text=["a", "b"], picture=[png(8, 8) + noise, b"no image" + noise])
    async with lab.simulator():
        await lab.run(job(lab, ["picture"]))
    encoded = b64encode(png(8, 8) + noise)[60:400]
    assert files_with(lab, noise[:200]) == files_with(lab, encoded) == []
    told = repr(lab.events)
    assert encoded.decode() not in told and repr(noise)[2:100] not in told
    assert repr(noise)[2:100] not in repr(Message("user", "a", (Image("d", noise, "image/png", 8, 8),)))


def files_with(lab: Lab, data: bytes) -> list[Path]:
    files = (path for path in lab.settings.home.rglob("*") if path.is_file() and "frozen" not in path.parts)
    return [path for path in files if data in path.read_bytes()]


VENDORS: dict[str, dict[str, Any]] = {
    "openai": {"models": ["simulator/small"]},
    "openai_compatible": {"models": ["simulator/small"]},
    "anthropic": {"models": ["simulator/small"]},
    "azure": {"models": ["small"], "deployment": "simulator-small"},
    "google": {"models": ["simulator-small"]},
}


@pytest.mark.parametrize("kind", VENDORS)
async def test_the_same_job_is_answered_by_every_kind_and_reserved_at_no_less(
    lab: Lab, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulator speaks as the vendor and refuses nothing; what is billed is never above what was predicted."""
    monkeypatch.setenv("SOME_KEY", "k")
    write_input(lab, id=[0, 1, 2], text=["a", "b", "c"], picture=[png(300, 200), None, png(3_000, 1_000)])
    async with lab.simulator() as simulator:
        base = simulator.origin if kind in ("anthropic", "azure", "google") else simulator.base_url
        pool = {"limits": "unknown", "prices": {"input": "1", "output": "2"}, **VENDORS[kind]}
        spec = {"kind": kind, "base_url": base, "api_key": "${env:SOME_KEY}", "pools": [pool]}
        (lab.folder / "providers.yaml").write_text(yaml.safe_dump({"providers": {"vendor": spec}}))
        asked = job(lab, ["picture"], model=f"vendor/{pool['models'][0]}")
        plan = await asyncio.to_thread(wiring.planner(lab.settings, asked).plan)
        summary = await lab.run(asked)
        assert simulator.stats()["rejected"] == {}
    assert (summary.ok, summary.failed) == (3, 0)
    billed = [row["llm_input_tokens"] for row in lab.rows()]
    assert billed[1] < 10 and billed[0] - billed[1] > 50
    assert plan.image_tokens >= sum(billed) - 3 * billed[1] > 0


@pytest.mark.parametrize("project", [None, "my-project"])
async def test_google_fetches_images_behind_addresses_and_they_are_reserved_as_dear_ones(
    lab: Lab, project: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project also out of Cloud Storage; an address that does not tell its type fails alone, before any call."""
    monkeypatch.setenv("SOME_KEY", "k")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(lab.folder / "account.json"))
    files = ["https://host/a.png?x=1", "gs://bucket/a.jpg", "https://host/a", None]
    write_input(lab, id=list(range(4)), text=["a"] * 4, file=files)
    place = {"api_key": "${env:SOME_KEY}"} if project is None else {"project": project, "location": "global"}
    async with lab.simulator() as simulator, token_endpoint(lab.folder / "account.json"):
        pool = {"limits": {"requests_per_minute": 6_000}, "models": ["simulator-small"], **place}
        spec = {"kind": "google", "base_url": simulator.origin, "pools": [pool]}
        (lab.folder / "providers.yaml").write_text(yaml.safe_dump({"providers": {"vendor": spec}}))
        asked = job(lab, ["file"], model="vendor/simulator-small")
        plan = await asyncio.to_thread(wiring.planner(lab.settings, asked).plan)
        await lab.run(asked)
        assert simulator.stats()["rejected"] == {}
    template, ok = ("failed", "template"), ("ok", None)
    assert statuses(lab) == [ok, template if project is None else ok, template, ok]
    billed = [row["llm_input_tokens"] for row in lab.rows()]
    assert billed[0] - billed[3] == 4 * 258 <= plan.image_tokens
