"""The list of commands, and that asking for help costs nothing."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batch_llm.cli.later import LATER

Cli = Callable[..., Any]

# DESIGN.md, section 2
PROMISED = (
    "plan", "preview", "run", "submit", "status", "watch", "show", "failed", "retry", "cancel", "export", "upload",
    "reparse", "forget", "limits", "report", "schema", "doctor", "dev", "demo", "simulator",
)  # fmt: skip
HEAVY = ("dagster", "google", "duckdb", "pyarrow", "openai", "aiohttp", "rich", "apprise", "pandas", "redis")


def test_help_lists_every_command_that_works_and_no_other(cli: Cli) -> None:
    said = cli("--help")
    assert said.code == 0
    listed = [line.split()[0] for line in said.out.split("Commands:")[1].splitlines() if line.strip()]
    assert listed == [name for name in PROMISED if name not in LATER]


@pytest.mark.parametrize("name", LATER)
@pytest.mark.parametrize("rest", [[], ["some_job"], ["--any", "thing"], ["--help"]])
def test_a_promised_command_that_has_not_landed_says_so(cli: Cli, name: str, rest: list[str]) -> None:
    said = cli(name, *rest)
    assert said.code == 2
    assert said.out == ""
    assert f"`batch-llm {name}` is not yet available. Use {LATER[name]}" in said.err


@pytest.mark.parametrize("name", [name for name in PROMISED if name not in LATER])
def test_every_command_explains_itself(cli: Cli, name: str) -> None:
    said = cli(name, "--help")
    assert said.code == 0
    assert f"Usage: batch-llm {name}" in said.out


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["limits", "set", "--help"], ["submit"]])
def test_help_loads_nothing_heavy(arguments: list[str], root: Path) -> None:
    program = (
        "import json, sys\n"
        "from batch_llm.cli import main\n"
        "try:\n    main(json.loads(sys.argv[1]))\nexcept SystemExit:\n    pass\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(arguments)], cwd=root, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("which", ["job", "providers"])
def test_schema_prints_a_json_schema_of_the_files_users_write(cli: Cli, which: str) -> None:
    said = cli("schema", which)
    assert said.code == 0
    schema = json.loads(said.out)
    expected = {"name", "input", "prompt", "model", "output"} if which == "job" else {"providers"}
    assert expected <= set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_the_reference_page_knows_every_command(root: Path) -> None:
    page = (root / "docs" / "reference" / "commands.md").read_text()
    described, later = page.split("## Not yet available")
    assert [name for name in PROMISED if name not in LATER and f"`{name}" not in described] == []
    assert [name for name in LATER if f"`{name}`" not in later] == []
