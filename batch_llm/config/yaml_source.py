"""YAML text to data, with the line of every value: what makes an error point at its place.

Belongs here: reading and writing YAML (the booleans and numbers of YAML 1.2, no tags, no repeated keys), `Source`.
Not here: what the keys mean (job/model.py, providers_file.py), wording of pydantic's findings (problems.py).

YAML 1.1, PyYAML's habit, reads ``on:`` as true, ``no`` as false, 2024-01-01 as a date and 1:30 as ninety. Here those
are text, as in YAML 1.2's core schema. Source: https://yaml.org/spec/1.2.2/#103-core-schema (read 2026-11-21).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from batch_llm.config.secrets import looks_secret, mask, scrub

__all__ = ["Place", "Problem", "Source", "YamlProblem", "dotted", "dump_yaml", "parse_yaml", "read_text"]

Place = tuple[str | int, ...]  # where a value stands: ("output", "keep", 0)
MOST_VALUES = 100_000  # aliases can make a small text huge; nothing a person declares is larger
_TAG = "tag:yaml.org,2002:"

_RESOLVERS: tuple[tuple[str, str, str], ...] = (  # tag, pattern, first characters
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
)


class YamlProblem(ValueError):
    """The text is not YAML we accept; the message holds the line and none of the text's values."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where."""

    path: Place
    reason: str
    literal_secret: bool = False
    at: str | None = None  # the place to show, when it is not where the path stands: "prompts/tone.md:3"


@dataclass(frozen=True)
class Source:
    """Declared data and where each value came from; for Python data the lines are unknown."""

    name: str  # the file as the user named it, or "job beige_tone"
    data: Any
    lines: Mapping[Place, int] = field(default_factory=dict, repr=False)  # 1-based, of the key or list item
    blocks: Mapping[Place, int] = field(default_factory=dict, repr=False)  # 1-based first line of a `|` text

    def line(self, path: Place) -> int | None:
        """The 1-based line of a value, or of the nearest thing around it that has one."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None

    def where(self, path: Place, *, line: int | None = None) -> str:
        """``jobs/x.yaml:12: output.mode``, for the beginning of a message."""
        at = self.line(path) if line is None else line
        where = self.name if at is None else f"{self.name}:{at}"
        return f"{where}: {dotted(path)}" if path else where

    def message(self, problems: Sequence[Problem]) -> str:
        """All problems, a line each, in the order of the file; secrets hidden."""
        ordered = sorted(problems, key=lambda problem: self.line(problem.path) or 0)
        lines = dict.fromkeys(f"{problem.at or self.where(problem.path)}: {problem.reason}" for problem in ordered)
        return scrub("\n".join(lines))


def dotted(path: Place) -> str:
    """``providers.openai.pools[0].limits``; parts that look like secrets are hidden."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = "***" if looks_secret(part) else part
            text += f".{shown}" if text else shown
    return text


def read_text(path: Path) -> str:
    """A file's text in UTF-8 (a byte-order mark is dropped); raises `YamlProblem` or OSError."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    raise YamlProblem(line, "the file is not UTF-8 text; save it as UTF-8")


def parse_yaml(text: str, name: str) -> Source:
    """Read one YAML document into plain data (dict, list, str, int, float, bool, None) with lines.

    Raises:
        YamlProblem: Bad syntax, a repeated key, a key that is not text, a tag, an endless alias, too many values.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        problem = _syntax_problem(error)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = YamlProblem(line, "a control character stands here; YAML allows none")
    except RecursionError:
        problem = YamlProblem(1, "nested too deeply")
    else:
        if node is None:
            return Source(name=name, data=None)
        builder = _Builder()
        data = builder.build(node, ())
        return Source(name=name, data=data, lines=builder.lines, blocks=builder.blocks)
    raise problem  # outside the handler: PyYAML's own error quotes the text, which may hold a secret


def dump_yaml(data: Any) -> str:
    """Plain data as YAML that `parse_yaml` reads back equal."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the core schema of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML declares it so


class _Dumper(yaml.SafeDumper):
    """PyYAML's writer, quoting what `_Loader` would read as something else."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML declares it so

    def ignore_aliases(self, data: Any) -> bool:
        """Write repeated values out: people read the result."""
        return True


def _write_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Several lines as a block that people can read; odd line breaks escaped, PyYAML would change them."""
    style = "|" if "\n" in text else None
    if re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]", text):
        style = '"'
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _write_text)

for _name, _pattern, _first in _RESOLVERS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^(?:{_pattern})$"), list(_first.replace("\0", "")))
        if "\0" in _first:
            _class.add_implicit_resolver(f"{_TAG}{_name}", re.compile(r"^$"), [""])


class _Builder:
    """Turns PyYAML's nodes into data, noting lines."""

    def __init__(self) -> None:
        self.lines: dict[Place, int] = {}
        self.blocks: dict[Place, int] = {}
        self._open: set[int] = set()
        self._values = 0

    def build(self, node: yaml.Node, path: Place) -> Any:
        line = _mark_line(node.start_mark)
        self.lines.setdefault(path, line)
        self._values += 1
        if self._values > MOST_VALUES or len(path) > 100:
            raise YamlProblem(line, f"more than {MOST_VALUES} values or 100 levels (a YAML alias repeats too much?)")
        if id(node) in self._open:
            raise YamlProblem(line, "an alias (*name) that contains itself")
        self._open.add(id(node))
        try:
            return self._kind(node, line)(node, path)
        finally:
            self._open.discard(id(node))

    def _kind(self, node: yaml.Node, line: int) -> Callable[[Any, Place], Any]:
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return self._sequence
        if isinstance(node, yaml.ScalarNode) and node.tag.removeprefix(_TAG) in _SCALARS:
            return self._scalar
        raise YamlProblem(line, "YAML tags (!name) are not allowed here; write the plain value")

    def _mapping(self, node: yaml.MappingNode, path: Place) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = _mark_line(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlProblem(line, "a key must be text; a template that begins with {{ needs quotes around it")
            if key_node.tag != f"{_TAG}str":
                raise YamlProblem(line, "a key must be text; put quotes around it")
            key = key_node.value
            if key in data:
                raise YamlProblem(line, f"the key {mask(key)} stands twice, first on line {self.lines[(*path, key)]}")
            self.lines[(*path, key)] = line
            data[key] = self.build(value_node, (*path, key))
        return data

    def _sequence(self, node: yaml.SequenceNode, path: Place) -> list[Any]:
        return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]

    def _scalar(self, node: yaml.ScalarNode, path: Place) -> Any:
        if node.style == "|":
            self.blocks[path] = _mark_line(node.start_mark) + 1
        try:
            return _SCALARS[node.tag.removeprefix(_TAG)](node.value)
        except (ValueError, KeyError):
            raise YamlProblem(_mark_line(node.start_mark), "a value that does not fit its tag") from None


def _integer(text: str) -> int:
    if len(text) > 100:
        raise ValueError
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_SCALARS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "null": lambda text: None,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": _integer,
    "float": float,
}


def _mark_line(mark: yaml.Mark | None) -> int:
    return 1 if mark is None else mark.line + 1


_SYNTAX: tuple[tuple[str, str], ...] = (  # a part of PyYAML's problem, what we say
    ("'\\t'", "a tab stands where YAML wants spaces"),
    (
        "mapping values are not allowed",
        "a second `key: value` on one line, or a wrong indentation (put quotes around text that holds ': ')",
    ),
    ("found another document", "a second document (`---`) begins here; a file holds one"),
    ("found unexpected end of stream", "a quote that begins here is never closed"),
    ("expected the node content", "a bracket that is never closed, or a value that is missing"),
    ("but got '<stream end>'", "a bracket that begins here is never closed"),
    ("expected ',' or", "a bracket that begins here is never closed, or lacks a comma"),
    ("cannot start any token", "a text may not begin with this character (@ ` % or a tab); put quotes around it"),
    ("expected <block end>", "this does not fit the lines above: wrong indentation, or text after a closing quote"),
    ("undefined alias", "an alias (*name) of which there is no anchor (&name); put quotes around a text with *"),
)


def _syntax_problem(error: yaml.MarkedYAMLError) -> YamlProblem:
    """PyYAML's finding in words, without the text it quotes."""
    found = f"{error.problem or ''} {error.context or ''}"
    for part, reason in _SYNTAX:
        if part in found:
            begun = "begins here" in reason and "document" not in reason
            return YamlProblem(_mark_line((begun and error.context_mark) or error.problem_mark), reason)
    plain = re.sub(r"['\"`].*", "", error.problem or "").strip()
    return YamlProblem(_mark_line(error.problem_mark), f"not valid YAML: {plain or 'wrong syntax'}")
