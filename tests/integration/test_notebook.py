"""A real kernel runs the notebook of the docs; real processes get Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

import batch_llm

pytestmark = [
    pytest.mark.timeout(600),
    # tornado and zmq, which the tests' notebook client stands on
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning", "ignore::ResourceWarning"),
]

CELL = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROVIDERS = """
providers:
  simulator:
    kind: simulator
    pools: [{name: main, models: ["*"], limits: {requests_per_minute: 60000, max_concurrency: 4}}]
    simulator: {latency_median_s: 0.5, latency_sigma: 0.0001}
"""
JOB = {
    "name": "stopped",
    "input": {"key": ["id"]},
    "prompt": {"user": "{{ text }}"},
    "model": "simulator/small",
    "output": {"table": "stopped"},
}
FRAME = "pandas.DataFrame({'id': range(60), 'text': [f'text {i}' for i in range(60)]})"
START_S = 120


def executed(cells: list[str], folder: Path) -> list[Any]:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return list(client.execute().cells)


def shown(cell: Any, kind: str = "text/plain") -> str:
    """What the cell's last expression showed."""
    return next(out["data"][kind] for out in cell.outputs if out["output_type"] == "execute_result")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose kernels are this very Python, in a home of their own."""
    from jupyter_client.kernelspec import KernelSpecManager

    monkeypatch.setenv("BATCH_LLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    assert KernelSpecManager().find_kernel_specs()
    return tmp_path


def test_the_cells_of_the_docs_work_as_written(kernel: Path, root: Path) -> None:
    """Both forms in a running loop, the frame back, nothing asked twice, one display of progress per run."""
    cells = executed(CELL.findall((root / "docs" / "how-to" / "notebook.md").read_text("utf-8")), kernel)
    run, merged, grown, awaited, local, sample = cells
    assert "3: 3 ok, 0 failed, 0 pending" in shown(run, "text/html")
    assert "Hiring froze." not in shown(run, "text/html")
    assert shown(merged).count("ok") == 3
    assert (shown(grown), shown(awaited), shown(sample)) == ("(1, 3)", "4", "(2, 2, 'sample')")
    assert shown(local) == "('Wednesday 01 January 2020', '2020-01-01 00:00:00')"
    displays = [out for out in run.outputs if out["output_type"] == "display_data"]
    assert len(displays) == 1 and "- finished" in displays[0]["data"]["text/html"]
    assert not [out for out in run.outputs if out["output_type"] == "stream"]


@pytest.mark.parametrize("form", ["batch_llm.run", "await batch_llm.arun"])
def test_the_stop_button_drains_and_the_result_says_so(kernel: Path, form: str) -> None:
    """The kernel's interrupt is a SIGINT: here it comes once answers have come in."""
    (kernel / "providers.yaml").write_text(PROVIDERS)
    setup = f"""
        import os, signal, pandas, batch_llm
        from batch_llm.engine.events import Progress
        os.environ["BATCH_LLM_PROVIDERS"] = "providers.yaml"
        pressed = []
        def press(event):
            if isinstance(event, Progress) and event.ok and not pressed:
                pressed.append(os.kill(os.getpid(), signal.SIGINT))
        before = signal.getsignal(signal.SIGINT)
        result = {form}({JOB!r}, {FRAME}, listener=press)
        result.stopped, result.ok + result.pending, 0 < result.ok < 60, signal.getsignal(signal.SIGINT) == before
    """
    (cell,) = executed([textwrap.dedent(setup)], kernel)
    assert shown(cell) == "('cancelled', 60, True, True)"


SCRIPT = f"""
import asyncio, sys, pandas, batch_llm
def loop_or_not(call):
    async def main():
        return call()
    return asyncio.run(main()) if sys.argv[1] == "inside" else call()
result = loop_or_not(lambda: batch_llm.run({JOB!r}, {FRAME}))
print(result)
"""


@pytest.mark.parametrize("where", ["plain", "inside"])
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_in_a_script(home: Path, tmp_path: Path, where: str, presses: int) -> None:
    """Once: a result that says stopped. Twice: KeyboardInterrupt. Nothing that came in is asked again."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "providers.yaml").write_text(PROVIDERS)
    environment = {**os.environ, "BATCH_LLM_PROVIDERS": str(tmp_path / "providers.yaml")}
    process = subprocess.Popen(
        [sys.executable, "script.py", where], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        _until_answers(home)
        process.send_signal(signal.SIGINT)
        if presses == 2:
            assert process.stderr is not None
            while "draining" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=START_S)
    finally:
        process.kill()
    if presses == 1:
        assert process.returncode == 0 and "stopped early (cancelled): the same call goes on" in out, err
    else:
        assert process.returncode != 0 and "KeyboardInterrupt: stopped at once" in err
    answered = sum(path.read_bytes().count(b'"answer"') for path in home.glob("runs/*/journal/*.jsonl"))
    rest = batch_llm.run(JOB, _frame(), progress=False)
    assert rest.ok == 60 and rest.summary.requests == 60 - answered


def _frame() -> Any:
    import pandas as pd

    return pd.DataFrame({"id": range(60), "text": [f"text {i}" for i in range(60)]})


def _until_answers(home: Path) -> None:
    ends_s = time.monotonic() + START_S
    while not any(path.stat().st_size for path in home.glob("runs/*/journal/*.jsonl")):
        assert time.monotonic() < ends_s
        time.sleep(0.05)
