"""JOB on the command line: a path or a name."""

from pathlib import Path

import pytest

from batch_llm import wiring
from batch_llm.cli.jobs import declared_job, known_run, name_of
from batch_llm.config.settings import Settings
from batch_llm.errors import JobFileError

JOB = """
name: {name}
input: {{table: rows.csv, key: [id]}}
prompt: {{user: "Say {{{{ text }}}}"}}
model: simulator/small
output: {{table: answers}}
"""


@pytest.fixture
def folder(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two declared jobs; nothing has run."""
    (tmp_path / "jobs" / "grade").mkdir(parents=True)
    (tmp_path / "jobs" / "beige_tone.yaml").write_text(JOB.format(name="beige_tone"))
    (tmp_path / "jobs" / "grade" / "job.yaml").write_text(JOB.format(name="grade"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("reference", ["jobs/beige_tone.yaml", "beige_tone", "./jobs/beige_tone.yaml"])
def test_a_declared_job_is_found_by_path_and_by_name(folder: Path, reference: str) -> None:
    declared = declared_job(Settings.from_environment(), reference)
    assert declared.job.name == "beige_tone"
    assert declared.directory == folder / "jobs"


@pytest.mark.parametrize("reference", ["grade", "jobs/grade/job.yaml"])
def test_a_folder_can_hold_a_job(folder: Path, reference: str) -> None:
    assert declared_job(Settings.from_environment(), reference).directory == folder / "jobs" / "grade"


def test_an_unknown_name_says_what_was_tried_and_the_nearest(folder: Path) -> None:
    with pytest.raises(JobFileError) as caught:
        declared_job(Settings.from_environment(), "beige_tune")
    for part in ("beige_tune", "beige_tone", "jobs/beige_tune.yaml", str(folder / "home"), "path to a job file"):
        assert part in str(caught.value)


def test_a_job_that_has_not_run_says_how_to_start_it(folder: Path) -> None:
    with pytest.raises(JobFileError, match=r"has not run.*batch-llm run beige_tone"):
        known_run("beige_tone")


def test_a_path_that_is_not_there_is_named() -> None:
    with pytest.raises(JobFileError, match=r"no/such\.yaml"):
        name_of("no/such.yaml")


def ran(folder: Path, file: str) -> None:
    """The job has run in this home, from this file."""
    settings = Settings.from_environment()
    planner = wiring.planner(settings, declared_job(settings, file))
    planner.start()


def test_a_second_file_of_the_same_name_is_told_before_anything_is_spent(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "jobs" / "rows.csv").write_text("id,text\n1,a\n")
    ran(folder, "jobs/beige_tone.yaml")
    first, second = folder / "jobs" / "beige_tone.yaml", folder / "jobs" / "other.yaml"
    for content, told in ((first.read_text(), False), (first.read_text().replace("Say", "Tell"), True)):
        second.write_text(content)  # a copy is no second job
        declared_job(Settings.from_environment(), str(second))
        err = capsys.readouterr().err
        assert (str(first) in err and str(second) in err) is told
    first.unlink()  # it was moved, and changed
    declared_job(Settings.from_environment(), str(second))
    assert capsys.readouterr().err == ""
