"""Every command as a user types it, against a simulator that counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from batch_llm import wiring
from tests.integration.cli_lab import CommandLine
from tests.integration.engine_lab import answered_body, compatible_server, write_input
from tests.integration.lab import SCHEMA, Lab
from tests.pictures import png

PROMISED = {
    "job", "run_id", "rows", "ok", "failed", "pending", "cached", "requests", "attempts", "input_tokens",
    "output_tokens", "cost_usd", "wall_s", "output", "failed_by_class",
}  # fmt: skip
STATUS = {"queued", "in_flight", "ok", "failed", "cached", "pending", "parked_until", "reason"}


@pytest.fixture
def cli(lab: Lab) -> CommandLine:
    return CommandLine(lab)


async def test_a_job_from_plan_to_forget(lab: Lab, cli: CommandLine) -> None:
    """Nothing is spent before `preview`, no row is paid twice, and every reading command agrees."""
    lab.table(30)
    job = cli.job_file()
    async with lab.simulator() as simulator:
        plan = await cli.run("plan", job, "--json")
        assert (plan.code, plan.json["rows"], plan.json["new"], len(plan.json["prompts"])) == (0, 30, 30, 2)
        assert simulator.stats()["accepted"] == 0

        for words in ("started", None):  # the second one asks nothing
            preview = await cli.run("preview", job, "-n", "4", "--json")
            assert words is None or f": {words}, 30 rows" in preview.err
            assert (preview.code, len(preview.json["rows"])) == (0, 4)
            assert all(row["columns"]["tone"] in ("calm", "tense") for row in preview.json["rows"])
            assert simulator.stats()["accepted"] == 4

        sample = await cli.run("run", job, "--limit", "6", "--json")
        assert (sample.code, sample.json["ok"], sample.json["pending"], sample.json["stopped"]) == (0, 10, 20, "sample")
        status = await cli.run("status", "lab", "--json")
        assert status.json.keys() >= STATUS
        assert (status.json["ok"], status.json["queued"], status.json["pending"]) == (10, 20, 20)

        run = await cli.run("run", job, "--json")
        assert run.json.keys() >= PROMISED
        assert (run.code, run.json["rows"], run.json["ok"], run.json["pending"]) == (0, 30, 30, 0)
        assert simulator.stats()["accepted"] == 30

        again = await cli.run("run", job)
        assert again.code == 0
        assert "nothing to do" in again.out
        assert simulator.stats()["accepted"] == 30

    assert (await cli.run("failed", "lab", "--json")).json["failed"] == 0
    show = await cli.run("show", "lab", "id=7", "--json")
    assert show.json["prompt"] == [{"role": "user", "content": "Grade: text 7"}]
    assert json.loads(show.json["answers"][0])["choices"][0]["finish_reason"] == "stop"
    assert show.json["result"]["llm_status"] == "ok"

    assert (await cli.run("export", "lab", "--to", "a.parquet", "--json")).json["rows"] == 30
    exported = pq.read_table(lab.folder / "a.parquet").sort_by("id").to_pylist()
    assert [{**row, "llm_latency_s": 0} for row in exported] == [{**row, "llm_latency_s": 0} for row in lab.rows()]

    assert (await cli.run("forget", "lab")).code == 2
    forgotten = await cli.run("forget", "lab", "--yes", "--json")
    assert forgotten.json["runs"] == [run.json["run_id"]]
    assert not (lab.settings.runs_dir / run.json["run_id"]).exists()
    assert (await cli.run("status", "--json")).json == []
    assert len(lab.rows()) == 30


async def test_what_nobody_was_asked_cost_nothing(lab: Lab, cli: CommandLine) -> None:
    """A run that is only planned, and one over an empty table."""
    lab.table(0)
    async with lab.simulator():
        run = await cli.run("run", cli.job_file())
        assert (run.code, "cost $0.00" in run.out) == (0, True)
        lab.table(3)
        wiring.planner(lab.settings, lab.job(output={"table": "later"})).start()
        status = await cli.run("status", "lab", "--json")
        assert (status.json["state"], status.json["cost_usd"]) == ("planned", 0)


async def test_failed_rows_are_told_by_class_and_asked_again_only_by_retry(lab: Lab, cli: CommandLine) -> None:
    lab.table(20)
    job = cli.job_file(retries={"attempts": 1, "re_asks": 0})
    async with lab.simulator(faults={"server_error": 1.0}) as simulator:
        run = await cli.run("run", job, "--json")
        assert run.code == 1
        assert run.json["failed_by_class"] == {"server_error": 20}

        failed = await cli.run("failed", "lab")
        assert failed.code == 0
        assert "server_error  20" in failed.out
        assert "batch-llm retry lab" in failed.out

        simulator.configure(faults={})
        again = await cli.run("run", job)
        assert (again.code, "nothing to do" in again.out) == (0, True)
        assert simulator.stats()["accepted"] == 20

        retry = await cli.run("retry", job, "--json")
        assert (retry.code, retry.json["ok"], retry.json["failed"]) == (0, 20, 0)
        assert (await cli.run("retry", "lab", "--json")).json["requests"] == 0
        nothing = await cli.run("retry", "lab")
        assert "nothing to do, every row was asked before, no row failed" in nothing.out
        assert "resumed" not in nothing.err
    show = await cli.run("show", "lab", "3")
    assert "server_error" in show.out
    assert "raw answer 1 of 1" in show.out


async def test_an_answer_that_was_taken_over_is_shown_with_its_own_prompt(lab: Lab, cli: CommandLine) -> None:
    """append_missing: a key that is there keeps its answer, whatever the job asks now."""
    lab.table(2)
    output = {"table": "out", "mode": "append_missing"}
    async with lab.simulator():
        assert (await cli.run("run", cli.job_file(output=output))).code == 0
        lab.table(3)
        changed = cli.job_file(output=output, prompt={"user": "Rate: {{ text }}"})
        rows = (await cli.run("preview", changed, "-n", "3", "--json")).json["rows"]
        assert [row["prompt"][0]["content"] for row in rows] == ["Grade: text 0", "Grade: text 1", "Rate: text 2"]


async def test_plan_counts_images_and_show_names_them_without_their_bytes(lab: Lab, cli: CommandLine) -> None:
    write_input(lab, id=[0, 1], text=["a", "b"], picture=[png(64, 64), None], file=["a.png", None])
    (lab.folder / "a.png").write_bytes(png(1_024, 1_024))
    job = cli.job_file(images=["picture", "file"], output={"table": "out"})
    async with lab.simulator():
        plan = await cli.run("plan", job)
        assert "1,234 of them for images" in plan.out
        assert "[image] image/png, 1,024 x 1,024 pixels" in plan.out
        assert (await cli.run("run", job, "--json")).json["ok"] == 2
    show = await cli.run("show", "lab", "0", "--json")
    assert show.json["prompt"] == [
        {"role": "user", "content": "Grade: a"},
        {"role": "image", "content": f"picture: {len(png(64, 64)):,} bytes"},
        {"role": "image", "content": "file: a.png"},
    ]
    assert len((await cli.run("show", "lab", "1", "--json")).json["prompt"]) == 1


async def test_nothing_above_the_stated_cost_is_spent_without_a_terminal(lab: Lab, cli: CommandLine) -> None:
    lab.table(10)
    job = cli.job_file()
    async with lab.simulator() as simulator:
        for command in ("run", "preview"):
            refused = await cli.run(command, job, "--confirm-above", "0.000001", "--json")
            assert (refused.code, refused.out) == (2, "")
            assert "Nothing was spent" in refused.err
        assert simulator.stats()["accepted"] == 0
        assert (await cli.run("run", job, "--confirm-above", "0.000001", "--yes")).code == 0


async def test_a_job_whose_cost_has_no_upper_end_is_asked_about(lab: Lab, cli: CommandLine) -> None:
    """Unless a budget below the limit of asking holds it anyway."""
    lab.table(3)
    async with lab.simulator() as simulator:
        refused = await cli.run("run", cli.job_file(params={}))
        assert refused.code == 2
        assert "max_output_tokens" in refused.err
        assert simulator.stats()["accepted"] == 0
        assert (await cli.run("run", cli.job_file(params={}, budget_usd=1))).code == 0


async def test_a_budget_ends_a_run_early_and_resumably(lab: Lab, cli: CommandLine) -> None:
    lab.table(200)
    async with lab.simulator():
        run = await cli.run("run", cli.job_file(budget_usd="0.003", params={"max_output_tokens": 50}), "--json")
        assert (run.code, run.json["stopped"]) == (3, "budget")
        assert 0 < run.json["ok"] < 200
        assert run.json["cost_usd"] <= 0.003
        status = await cli.run("status", "lab", "--json")
        assert (status.json["reason"], status.json["pending"]) == ("budget", run.json["pending"])
        assert status.json["state"] == "stopped"
        told = (await cli.run("status")).out
        assert f"stopped with {run.json['pending']} rows pending; raise budget_usd, then run it again: " in told
        more = await cli.run("run", cli.job_file(budget_usd="1", params={"max_output_tokens": 50}), "--json")
        assert (more.code, more.json["ok"], more.json["run_id"]) == (0, 200, run.json["run_id"])


def as_account_with_key(lab: Lab, variable: str) -> None:
    """The lab's provider becomes one that wants a key: provider `account`, model `simulator/small`."""
    path = lab.folder / "providers.yaml"
    spec = yaml.safe_load(path.read_text())["providers"]["simulator"]
    spec |= {"kind": "openai_compatible", "api_key": f"${{env:{variable}}}"}
    spec["pools"][0]["models"] = ["simulator/small"]
    path.write_text(yaml.safe_dump({"providers": {"account": spec}}))


async def test_no_secret_reaches_a_pipe_or_a_file(lab: Lab) -> None:
    """A key that the provider refuses, and one that it accepts."""
    lab.table(5)
    for accepted in (False, True):
        cli = CommandLine(lab, {"PLANTED_KEY": "planted-key-4711"})
        async with lab.simulator(api_key="planted-key-4711" if accepted else "another"):
            as_account_with_key(lab, "PLANTED_KEY")
            said = [await cli.run(*command) for command in (
                ["run", cli.job_file(model="account/simulator/small"), "--json"], ["status"], ["failed", "lab"],
                ["show", "lab", "1"], ["doctor"], ["doctor", "--json"],
            )]  # fmt: skip
        assert said[0].code == (0 if accepted else 3)
        assert "planted-key-4711" not in "".join(one.out + one.err for one in said)
        files = [path for path in lab.folder.rglob("*") if path.is_file()]
        assert not [path for path in files if b"planted-key-4711" in path.read_bytes()]


async def test_a_key_that_an_answer_echoes_is_not_shown(lab: Lab) -> None:
    """It is stored as it came; who looks at it sees no key, although `show` itself needs none."""
    lab.table(1)
    cli = CommandLine(lab, {"LOCAL_KEY": "planted-key-4711"})

    async def echo(_: str) -> tuple[int, dict[str, Any]]:
        return 200, answered_body('{"tone": "Bearer planted-key-4711", "score": 1}')

    async with compatible_server(lab, echo) as model:
        assert (await cli.run("run", cli.job_file(model=model))).code == 1
        shown = [await cli.run("show", "lab", "0"), await cli.run("show", "lab", "0", "--json")]
    assert [("Bearer ***" in one.out, "planted" in one.out) for one in shown] == [(True, False)] * 2, shown


async def test_a_finished_run_tells_the_channel_and_a_channel_that_fails_fails_nothing(lab: Lab) -> None:
    cli = CommandLine(lab, {"HOOK": "json://127.0.0.1:1/planted-hook"})
    lab.table(3)
    async with lab.simulator():
        run = await cli.run("run", cli.job_file(notify=["${env:HOOK}"]), "--json")
    assert (run.code, run.json["ok"]) == (0, 3)
    assert "could not notify ${env:HOOK}" in run.err
    assert "planted-hook" not in run.err


async def test_a_missing_key_is_told_before_anything_is_frozen_or_asked(lab: Lab, cli: CommandLine) -> None:
    lab.table(3)
    lab.providers("http://127.0.0.1:1/v1")
    as_account_with_key(lab, "ABSENT_KEY")
    job = cli.job_file(model="account/simulator/small")
    for command in ("run", "preview"):
        said = await cli.run(command, job)
        assert (said.code, said.out) == (2, "")
        assert "ABSENT_KEY" in said.err
    assert not lab.settings.runs_dir.exists()


async def test_a_channel_that_is_not_set_is_told_before_anything_is_asked(lab: Lab, cli: CommandLine) -> None:
    lab.table(3)
    async with lab.simulator() as simulator:
        job = cli.job_file(notify=["${env:ABSENT_HOOK}"])
        planned = await cli.run("plan", job, "--json")
        said = await cli.run("run", job, "--yes")
        assert simulator.stats()["accepted"] == 0
    assert planned.code == 0 and any("ABSENT_HOOK" in warning for warning in planned.json["warnings"])
    assert (said.code, said.out) == (2, "") and "ABSENT_HOOK" in said.err and "notify" in said.err


async def test_a_fallback_that_nobody_has_is_told_by_its_own_line(lab: Lab, cli: CommandLine) -> None:
    lab.table(3)
    lab.accounts(main={"models": ["small"], "base_url": "http://127.0.0.1:1/v1"})
    for command in ("run", "preview", "plan"):
        said = await cli.run(command, cli.job_file(fallback=["simulator/zzz"]))
        assert (said.code, said.out) == (2, "")
        assert "fallback[0]: no pool of provider 'simulator' has the model 'zzz'" in said.err


BAD_INPUTS = {
    "a column that is not there": ({"prompt": {"user": "Grade: {{ txt }}"}}, "txt", "text"),
    "a kept column that is not there": ({"output": {"table": "out", "keep": ["extr"]}}, "extr", "extra"),
    "a key that is not there": ({"input": {"table": "input.parquet", "key": ["idd"]}}, "idd", "id"),
    "a key that is not unique": (
        {"input": {"table": "input.parquet", "key": ["extra"]}, "output": {"table": "out"}},
        "extra",
        "unique",
    ),
    "a file that is not there": ({"input": {"table": "inptu.parquet", "key": ["id"]}}, "inptu.parquet", ""),
    "an output nobody can write": ({"output": {"table": "/proc/x.parquet", "schema": SCHEMA}}, "/proc", "written"),
    "an unknown provider": ({"model": "simulatr/small"}, "simulatr", "simulator"),
    "a filter that is no SQL": (
        {"input": {"table": "input.parquet", "key": ["id"], "where": "extra >"}},
        "extra >",
        "",
    ),
}


@pytest.mark.parametrize("bad", BAD_INPUTS)
async def test_what_cannot_run_is_refused_before_any_call(lab: Lab, cli: CommandLine, bad: str) -> None:
    """Exit 2, plain words that name what is wrong, nothing spent."""
    changes, wrong, hint = BAD_INPUTS[bad]
    lab.table(20)
    async with lab.simulator() as simulator:
        said = await cli.run("run", cli.job_file(**changes), "--yes", "--json")
        assert simulator.stats()["accepted"] == 0
    assert (said.code, said.out) == (2, ""), said.err
    assert wrong in said.err
    assert hint in said.err
    assert "Traceback" not in said.err


async def test_the_demo_needs_no_key_and_runs_twice(lab: Lab, tmp_path: Path) -> None:
    """Whatever keys and services the environment names; the second time asks nothing, --fresh asks all again."""
    elsewhere = {
        "OPENAI_API_KEY": "planted-demo-key", "BATCH_LLM_PROVIDERS": str(tmp_path / "absent.yaml"),
        "BATCH_LLM_WAREHOUSE": "bigquery:nowhere.nothing",
    }  # fmt: skip
    cli = CommandLine(lab, elsewhere)
    first = await cli.run("demo")
    assert first.code == 0
    assert "simulator on this machine, not by an LLM" in first.err
    assert "418 rows: 418 ok, 0 failed, 0 pending" in first.out
    assert "5 of the 418 rows of the table trading_sessions" in first.out
    again = await cli.run("demo", "--json")
    assert (again.code, again.json["requests"], again.json["ok"]) == (0, 0, 418)
