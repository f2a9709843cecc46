"""The commands and their options.

Belongs here: names, options, help. Not here: doing anything: each command calls one function of a sibling module,
imported when it is called, so that ``--help`` stays fast.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from batch_llm.cli import later
from batch_llm.cli.limits_app import limits

if TYPE_CHECKING:
    from typer._click import Context

__all__ = [
    "app",
    "demo",
    "dev",
    "doctor",
    "export",
    "failed",
    "forget",
    "plan",
    "preview",
    "reparse",
    "retry",
    "run",
    "schema",
    "show",
    "simulator",
    "status",
    "upload",
]

HELP = """Push millions of table rows through cloud LLMs: every row once, at the speed of the limit.

JOB is a path to a job file, or the name of a job in jobs/ or one that has run in this home (BATCH_LLM_HOME, default
.batch_llm). Exit codes: 0 every row ok, 1 finished with failed rows, 2 usage or configuration, 3 stopped early and
resumable, 4 internal error.
"""

LAST = ("schema", "doctor", "dev", "demo", "simulator")  # in --help, after what concerns jobs


class _InOrder(TyperGroup):
    """Lists the commands as a user meets them; typer would list groups of commands last."""

    def list_commands(self, ctx: Context) -> list[str]:
        return sorted(super().list_commands(ctx), key=LAST.__contains__)


app = typer.Typer(
    cls=_InOrder,
    help=HELP,
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job file, or a job's name.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Only JSON on stdout.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AboveOption = Annotated[
    str, typer.Option("--confirm-above", metavar="USD", help="Ask when it may cost more than this.", show_default=True)
]
PartitionOption = Annotated[
    str | None,
    typer.Option(
        "--partition", metavar="DAY", help="The day, week or month to run, by its first day (schedule.cadence)."
    ),
]


@app.command()
def plan(
    job: JobArgument,
    partition: PartitionOption = None,
    full: Annotated[bool, typer.Option("--full", help="Show the two prompts to their end.")] = False,
    json: JsonOption = False,
) -> None:
    """What a run would do and cost. Spends nothing, needs no key."""
    from batch_llm.cli.plan import print_plan

    print_plan(job, partition, json=json, full=full)


@app.command()
def preview(
    job: JobArgument,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="How many rows to answer and show.")] = 5,
    partition: PartitionOption = None,
    yes: YesOption = False,
    confirm_above: AboveOption = "1",
    json: JsonOption = False,
) -> int:
    """Answer a few rows for real and show them. The whole run does not pay them again."""
    from batch_llm.cli.preview import preview as show_preview
    from batch_llm.cli.spending import Consent

    return show_preview(job, rows, Consent(yes, _usd(confirm_above)), partition, json=json)


@app.command()
def run(
    job: JobArgument,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Ask only so many rows now; the rest stays pending.")
    ] = None,
    partition: PartitionOption = None,
    yes: YesOption = False,
    confirm_above: AboveOption = "1",
    json: JsonOption = False,
) -> int:
    """Run a job, or go on with it. Ctrl-C drains and keeps what is paid; twice stops at once."""
    from batch_llm.cli.run import Spend, run_job
    from batch_llm.cli.spending import Consent

    consent = Consent(yes, _usd(confirm_above))
    return run_job(job, Spend(limit, json=json, consent=consent, partition=partition))


@app.command()
def status(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", show_default=False)] = None,
    partition: PartitionOption = None,
    json: JsonOption = False,
) -> None:
    """Where the jobs of this home stand, or one of them."""
    from batch_llm.cli.status import print_status

    print_status(job, partition, json=json)


@app.command()
def show(
    job: JobArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="value,value or column=value,..", show_default=False)],
    partition: PartitionOption = None,
    json: JsonOption = False,
) -> None:
    """One row in full: prompt, raw answers, columns, cost."""
    from batch_llm.cli.show import show_row

    show_row(job, key, partition, json=json)


@app.command()
def failed(job: JobArgument, partition: PartitionOption = None, json: JsonOption = False) -> None:
    """The failed rows by class, with examples and what may help."""
    from batch_llm.cli.failed import print_failed

    print_failed(job, partition, json=json)


@app.command()
def retry(
    job: JobArgument,
    partition: PartitionOption = None,
    yes: YesOption = False,
    confirm_above: AboveOption = "1",
    json: JsonOption = False,
) -> int:
    """Ask the failed rows of the latest run once more."""
    from batch_llm.cli.run import Spend, retry_job
    from batch_llm.cli.spending import Consent

    return retry_job(job, Spend(json=json, consent=Consent(yes, _usd(confirm_above)), partition=partition))


@app.command()
def export(
    job: JobArgument,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help=".parquet .csv .jsonl .arrow", show_default=False)],
    json: JsonOption = False,
) -> None:
    """Write the answers to a file."""
    from batch_llm.cli.export import export as export_rows

    export_rows(job, to, json=json)


@app.command()
def upload(
    file: Annotated[str, typer.Argument(metavar="FILE", help=".parquet .csv .jsonl .arrow", show_default=False)],
    table: Annotated[str, typer.Argument(metavar="TABLE", help="name or dataset.name", show_default=False)],
    replace: Annotated[bool, typer.Option("--replace", help="Put the rows in the place of a table's.")] = False,
    json: JsonOption = False,
) -> None:
    """Make a table of the warehouse from a file, all or nothing."""
    from batch_llm.cli.upload import upload as upload_file

    upload_file(file, table, replace=replace, json=json)


@app.command()
def reparse(job: JobArgument, partition: PartitionOption = None, json: JsonOption = False) -> int:
    """Read the stored answers again, by the schema as it is now. Spends nothing, needs no key."""
    from batch_llm.cli.reparse import reparse as reparse_job

    return reparse_job(job, partition, json=json)


@app.command()
def forget(
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="A job file, or a job's name.", show_default=False)
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="30d", help="Only runs that ended so long ago; of all jobs.")
    ] = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Erase all runs of a job. Raw answers, frozen input and work tables go; the output table stays."""
    from batch_llm.cli.forget import forget as forget_job
    from batch_llm.cli.forget import forget_older
    from batch_llm.errors import ConfigurationError

    if older_than is not None:
        forget_older(older_than, job, yes=yes, json=json)
    elif job is None:
        raise ConfigurationError("name a job to forget, or say how old its runs must be: --older-than 30d")
    else:
        forget_job(job, yes=yes, json=json)


@app.command()
def schema(
    which: Annotated[str, typer.Argument(metavar="[job|providers]", help="Of which file.", show_default=True)] = "job",
) -> None:
    """The JSON Schema of the files you write, for editors."""
    from batch_llm.cli.schemas import print_schema

    print_schema(which)


@app.command()
def doctor(
    online: Annotated[bool, typer.Option("--online", help="Also ask the providers' servers for the time.")] = False,
    json: JsonOption = False,
) -> int:
    """Check what a run needs: keys (never printed), files, services, disk."""
    from batch_llm.cli.doctor import doctor as examine

    return examine(online=online, json=json)


@app.command()
def dev(
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="The next free one is used.")] = 3000,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
) -> int:
    """Start the Dagster UI and daemon here. Needs a checkout."""
    from batch_llm.cli.dev import dev as start

    return start(port, open_browser=not no_open)


@app.command()
def demo(
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask every row again, with another seed.")] = False,
    json: JsonOption = False,
) -> int:
    """A real table through the simulator: no key, nothing billed."""
    from batch_llm.cli.demo import demo as run_demo

    return run_demo(fresh=fresh, json=json)


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def simulator(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="0: any free one.")] = 8080,
    settings: Annotated[bool, typer.Option("--settings", help="List all settings and stop.")] = False,
) -> None:
    """Serve a simulated provider until Ctrl-C. Every setting is a flag: --requests-per-minute 600 --faults 0.05."""
    from batch_llm.cli.simulator import print_settings, simulate

    if settings:
        print_settings()
    else:
        simulate(host, port, context.args)


def _usd(text: str) -> Decimal:
    """Money from the command line."""
    from batch_llm.cli.spending import parse_usd

    return parse_usd(text)


app.add_typer(limits, name="limits")
later.register(app)
