"""A provider that is not ours: a kind in an installed package, found by its entry point, asked like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from batch_llm import wiring
from batch_llm.config.provider_kinds import kind_named
from batch_llm.config.providers_file import load_providers, parse_providers
from batch_llm.errors import ConfigurationError, JobFileError, ProvidersFileError
from tests.integration.lab import Lab

PAGE = Path(__file__).parents[2] / "docs/how-to/own-provider.md"
POOLS = {"pools": [{"models": ["loud"], "limits": {"requests_per_minute": 6_000}}]}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package of the how-to page, as pip would install it."""
    site = tmp_path / "site"
    information = site / "shout-1.0.dist-info"
    information.mkdir(parents=True)
    blocks = PAGE.read_text(encoding="utf-8").split("```")
    (site / "shout.py").write_text(next(block.removeprefix("python\n") for block in blocks if "KIND" in block))
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: shout\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[batch_llm.providers]\nshout = shout:KIND\nopenai = shout:KIND\nlost = shout:NOTHING\nodd = shout:KIND\n"
    )
    monkeypatch.syspath_prepend(site)
    kind_named.cache_clear()
    yield site
    kind_named.cache_clear()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Three rows, and a providers file with the user's kind."""
    made = Lab(tmp_path)
    made.table(3)
    made.settings.providers_path.write_text(yaml.safe_dump({"providers": {"mine": {"kind": "shout", **POOLS}}}))
    return made


async def test_a_job_is_answered_by_a_kind_of_the_users_own(installed: Path, lab: Lab) -> None:
    summary = await lab.run(lab.job(model="mine/loud", output={"table": "out"}, prompt={"user": "hello {{ id }}"}))
    assert (summary.ok, summary.failed) == (3, 0)
    table = lab.rows()
    assert sorted(row["response"] for row in table) == ["HELLO 0", "HELLO 1", "HELLO 2"]
    assert {row["llm_input_tokens"] for row in table} == {2}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": ["picture"]}, "lab: images: provider 'mine' (kind shout) takes no images; remove the key"),
        ({"params": {"seed": 1}}, "lab: params.seed: provider 'mine' (kind shout) cannot do this: it says the same"),
        (
            {"kind": "embedding", "params": {"dimensions": 8}, "prompt": {"user": "{{ text }}"}},
            "lab: model: provider 'mine' (kind shout) has no embeddings",
        ),
    ],
)
def test_what_the_kind_cannot_do_is_refused_before_anything_is_asked(
    installed: Path, lab: Lab, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(JobFileError) as error:
        wiring.planner(lab.settings, lab.job(model="mine/loud", **{"output": {"table": "out"}, **changes}))
    assert said in str(error.value)


def test_the_file_knows_the_kind_only_while_its_package_is_installed(installed: Path, lab: Lab) -> None:
    assert load_providers(lab.settings.providers_path).providers["mine"].kind == "shout"
    with pytest.raises(ProvidersFileError, match=r"'shuot' is not one of openai, .*, shout, .*did you mean 'shout'"):
        parse_providers(yaml.safe_dump({"providers": {"mine": {"kind": "shuot", **POOLS}}}), "p.yaml")


def test_a_package_cannot_take_the_place_of_one_of_ours(installed: Path) -> None:
    assert kind_named("openai").base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("lost", "'lost' \\(shout:NOTHING\\) cannot be loaded: .*NOTHING"),
        ("odd", "must be a ProviderKind of that name"),
    ],
)
def test_a_kind_that_cannot_be_used_says_why(installed: Path, kind: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        parse_providers(yaml.safe_dump({"providers": {"mine": {"kind": kind, **POOLS}}}), "p.yaml")
