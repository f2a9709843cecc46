"""The prompt: Jinja2 templates over a row, in a sandbox.

Belongs here: compiling the templates, the columns they use, rendering a row. Not here: reading files (load.py),
counting tokens (tokens.py).
Invariant: a row's values are data. They are printed as they are and never compiled, whatever they hold.

What a template sees: the row's columns, and Jinja2's own ``range``, ``dict``, ``cycler``, ``joiner``, ``namespace``
(a column of the same name wins when the template uses the name as a value). White space is kept as written, the last
newline too. A null prints as nothing, also through a text filter (``{{ comment | upper }}``), ``~`` or ``join``, and a
loop over it does nothing; ``is none`` tells. ``turn.items`` is the field ``items`` when the value has one. A column
that the row lacks is an error. No includes, imports, blocks or inheritance: a prompt is one text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from batch_llm.config.problems import did_you_mean
from batch_llm.errors import ErrorClass, InputError, JobFileError
from batch_llm.job.printed import NoTextError, printed, with_text

__all__ = ["PromptError", "PromptTemplate", "RenderError", "RenderedMessage", "TooLargeError"]

MOST_TEXT = 10_000_000  # characters a template may make by repetition: far above any model's context
LARGEST_POWER = 64
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_TYPES = frozenset(
    {
        "str",
        "int",
        "float",
        "bool",
        "list",
        "dict",
        "tuple",
        "date",
        "datetime",
        "time",
        "timedelta",
        "Decimal",
        "bytes",
        "None",
        "NoneType",
    }
)
_TEXT_FILTERS = (
    "capitalize",
    "center",
    "e",
    "escape",
    "forceescape",
    "indent",
    "lower",
    "replace",
    "string",
    "striptags",
    "title",
    "trim",
    "truncate",
    "upper",
    "urlencode",
    "urlize",
    "wordcount",
    "wordwrap",
)


class PromptError(JobFileError):
    """A template that cannot be compiled.

    Attributes:
        field: ``system`` or ``user``.
        line: 1-based line inside the template.
        reason: What is wrong there.
    """

    def __init__(self, field: str, line: int, reason: str) -> None:
        super().__init__(f"prompt.{field}, line {line}: {reason}")
        self.field = field
        self.line = line
        self.reason = reason


class RenderError(ValueError):
    """This row cannot be rendered; the message holds no value of the row."""

    error_class = ErrorClass.TEMPLATE


class TooLargeError(RenderError):
    """What was made from this row is larger than can be sent."""

    error_class = ErrorClass.TOO_LARGE


@dataclass(frozen=True, slots=True)
class RenderedMessage:
    """One message of the prompt, filled in."""

    role: str  # system | user
    content: str


class PromptTemplate:
    """A compiled prompt. Safe to use from several threads.

    Attributes:
        columns: The names of the input columns that the templates use.
    """

    columns: frozenset[str]

    def __init__(self, system: str | None, user: str) -> None:
        """Compile both templates. Raises `PromptError`."""
        compiled = [_compile(role, text) for role, text in (("system", system), ("user", user)) if text is not None]
        self.columns = frozenset().union(*(part.columns for part in compiled))
        self._constants = frozenset().union(*(part.constants for part in compiled))
        self._parts = tuple(compiled)

    def render(self, row: Mapping[str, Any]) -> tuple[RenderedMessage, ...]:
        """The messages for one row: system first, if there is one.

        Args:
            row: The row's values by column; more columns than used may be given.

        Raises:
            RenderError: A column or an attribute is missing, or the values do not fit what the template does.
        """
        return tuple(RenderedMessage(part.role, part.render(row)) for part in self._parts)

    def check_columns(self, available: Collection[str]) -> None:
        """Raise `InputError` when the input lacks a column that the prompt uses, or has one it cannot name."""
        hidden = [name for name in available if name in _CONSTANTS and _CONSTANTS[name] in self._constants]
        if hidden:
            raise InputError(f"the prompt: Jinja2 keeps the name {hidden[0]!r} for itself: rename the column")
        missing = sorted(self.columns.difference(available))
        if not missing:
            return
        lines = [
            f"the prompt uses the column {name!r}, which the input does not have{did_you_mean(name, available)}"
            for name in missing
        ]
        raise InputError("\n".join([*lines, f"columns of the input: {', '.join(available)}"]))


@dataclass(frozen=True, slots=True)
class _Compiled:
    role: str
    text: str
    template: Template
    columns: frozenset[str]
    constants: frozenset[bool | None]  # those that stand where a column would
    pieces: tuple[tuple[str, bool], ...] | None = None  # where it is but texts and columns: (text or name, is a column)

    def render(self, row: Mapping[str, Any]) -> str:
        try:
            values = {name: row[name] for name in self.columns}
        except KeyError as error:
            raise RenderError(f"the row has no column {error.args[0]!r} (prompt.{self.role})") from None
        if self.pieces is not None and all(type(value) is str for value in values.values()):
            return "".join([values[piece] if is_column else piece for piece, is_column in self.pieces])
        try:
            return self.template.render(values)
        except (TemplateError, TypeError) as error:
            reason = self._without_values(error)
        except (ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError, MemoryError) as error:
            reason = type(error).__name__  # its text may quote a value of the row
        raise RenderError(f"the prompt cannot be rendered from this row (prompt.{self.role}): {reason}")

    def _without_values(self, error: Exception) -> str:
        """The message, if all it quotes are types and words of the template; else only what kind of error it is."""
        message = str(error)
        if isinstance(error, NoTextError):
            return message
        for pair in _QUOTED.findall(message):
            word = "".join(pair)
            if word not in self.text and word.removesuffix(" object") not in _TYPES:
                return type(error).__name__
        return message


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, with repetition bounded (it bounds `range` itself)."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuse a product that would not fit into memory, and to format what has no text."""
        if operator == "%":
            with_text(right)
        if operator == "**" and not (abs(left) < MOST_TEXT and abs(right) <= LARGEST_POWER):
            raise SecurityError("a power larger than a prompt may use")
        if operator == "*" and max(_repeated(left, right), _repeated(right, left)) > MOST_TEXT:
            raise SecurityError("a repetition larger than a prompt may use")
        return super().call_binop(context, operator, left, right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A struct's own field before Python's methods: ``order.items`` is the field when there is one."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``'{}'.format(x)`` takes what ``{{ x }}`` takes."""
        formatted = super().wrap_str_format(value)
        return None if formatted is None else _takes_texts(formatted)


def _repeated(text: Any, times: Any) -> int:
    return len(text) * times if isinstance(text, str | list | tuple) and isinstance(times, int) else 0


def _items(value: Any) -> Any:
    """What a loop goes over: nothing for a null."""
    return () if value is None else value


def _join(value: Iterable[Any] | None, d: str = "", attribute: str | None = None) -> str:
    """``join`` in which null elements, and a null list, are empty."""
    items = [] if value is None else list(value)
    if attribute is not None:
        items = [_ENVIRONMENT.getattr(item, attribute) for item in items]
    return d.join(str(printed(item)) for item in items)


def _keeps_null(function: Callable[..., Any], seen: Callable[[Any], Any]) -> Callable[..., Any]:
    """A text filter through which a null stays null, instead of becoming the word None; ``seen``: of other values."""
    position = 1 if hasattr(function, "jinja_pass_arg") else 0  # Jinja2 puts its context before the value

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if args[position] is None:
            return None
        return function(*args[:position], seen(args[position]), *args[position + 1 :], **kwargs)

    return wrapped


def _takes_texts(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which writes its arguments into a text, for what has one."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            with_text(value)
        return function(*args, **kwargs)

    return wrapped


def _environment() -> _Environment:
    environment = _Environment(
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=printed, cache_size=0
    )
    del environment.globals["lipsum"]  # random text: the same row would never give the same request
    del environment.filters["random"]
    for name in _TEXT_FILTERS:
        seen = with_text if name == "urlencode" else printed  # urlencode goes through lists of pairs itself
        environment.filters[name] = _keeps_null(environment.filters[name], seen)
    for name in ("pprint", "format"):
        environment.filters[name] = _takes_texts(environment.filters[name])
    environment.filters.update(_printed=printed, _items=_items, join=_join)
    return environment


_ENVIRONMENT = _environment()
_FUNCTIONS = frozenset(_ENVIRONMENT.globals)
_BARE = _Environment()  # knows no functions: tells which names the template itself does not define
_BARE.globals.clear()
_CONSTANTS = {"none": None, "None": None, "true": True, "True": True, "false": False, "False": False}
_ONE_TEXT = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Block)


class _NullsAreEmpty(NodeTransformer):
    """``a ~ b`` prints nothing for a null, as ``{{ a }}{{ b }}`` does; a loop over a null does nothing."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Concat:  # noqa: N802  Jinja2 looks the name up
        """See the class."""
        self.generic_visit(node)
        node.nodes = [_filtered(part, "_printed") for part in node.nodes]
        return node

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802  Jinja2 looks the name up
        """See the class."""
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_items")
        return node


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _compile(role: str, text: str) -> _Compiled:
    try:
        tree = _ENVIRONMENT.parse(text)
        _refuse_other_files(role, tree)
        columns = _columns(role, tree, meta.find_undeclared_variables(_BARE.parse(text)))
        pieces, constants = _pieces(tree, columns), _bare_constants(tree)
        tree = _NullsAreEmpty().visit(tree)
        tree.set_environment(_ENVIRONMENT)
        code = _ENVIRONMENT.compile(tree, name=f"prompt.{role}")
        template = Template.from_code(_ENVIRONMENT, code, dict(_ENVIRONMENT.globals))
    except TemplateSyntaxError as error:
        _refuse(role, error.lineno, error.message or "not a template")
    except RecursionError:
        _refuse(role, 1, "nested too deeply")
    return _Compiled(role, text, template, columns, constants, pieces)


def _pieces(tree: nodes.Template, columns: Collection[str]) -> tuple[tuple[str, bool], ...] | None:
    """A template that only puts columns between texts, as most do; None for any other.

    Where all those columns hold texts, joining them is a tenth of the work that Jinja2 has with it.
    """
    found: list[tuple[str, bool]] = []
    for output in tree.body:
        if not isinstance(output, nodes.Output):
            return None
        for part in output.nodes:
            if isinstance(part, nodes.TemplateData):
                found.append((part.data, False))
            elif isinstance(part, nodes.Name) and part.name in columns:
                found.append((part.name, True))
            else:
                return None
    return tuple(found)


def _refuse(role: str, line: int, reason: str) -> NoReturn:
    raise PromptError(role, line, reason) from None


def _refuse_other_files(role: str, tree: nodes.Template) -> None:
    for node in tree.find_all(_ONE_TEXT):
        _refuse(role, node.lineno, "include, import, extends and block are not allowed: a prompt is one text")


def _columns(role: str, tree: nodes.Template, undeclared: Collection[str]) -> frozenset[str]:
    """The names that only a row can give; a function's name counts when it is used other than by calling it."""
    called = {id(call.node) for call in tree.find_all(nodes.Call)}
    columns = {name for name in undeclared if name not in _FUNCTIONS}
    calls: dict[str, int] = {}
    for name in tree.find_all(nodes.Name):
        if name.name == "self" and name.ctx == "load":
            _refuse(role, name.lineno, "Jinja2 keeps the name 'self' for itself: rename the column")
        if name.name in _FUNCTIONS and name.name in undeclared and id(name) in called:
            calls.setdefault(name.name, name.lineno)
        elif name.name in _FUNCTIONS and name.name in undeclared and name.ctx == "load":
            columns.add(name.name)
    for word in sorted(columns & calls.keys()):
        _refuse(role, calls[word], f"{word!r} is used as a column and as the function {word}(): rename the column")
    return frozenset(columns)


def _bare_constants(tree: nodes.Template) -> frozenset[bool | None]:
    """What is printed, gone through or asked for its truth and is but a constant: somebody meant a column."""
    places: list[nodes.Node] = [part for each in tree.find_all(nodes.Output) for part in each.nodes]
    places += [part for each in tree.find_all(nodes.Concat) for part in each.nodes]
    places += [each.test for each in tree.find_all(nodes.If)]
    places += [each.test for each in tree.find_all(nodes.CondExpr)]
    places += [each.iter for each in tree.find_all(nodes.For)]
    values = [head.value for head in map(_head, places) if isinstance(head, nodes.Const)]
    return frozenset(value for value in values if value is None or isinstance(value, bool))


def _head(node: nodes.Node | None) -> nodes.Node | None:
    """What an expression begins with: ``a`` of ``a.b | upper or c``."""
    while True:
        if isinstance(node, nodes.Filter | nodes.Getattr | nodes.Getitem | nodes.Test):
            node = node.node
        elif isinstance(node, nodes.Or | nodes.And):
            node = node.left
        else:
            return node
