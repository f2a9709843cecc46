"""``batch-llm simulator``: a provider that costs nothing, on a local port.

Belongs here: flags to settings. Not here: the simulator (batch_llm/simulator). Every setting of SimulatorConfig is a
flag of the same name, read from the model itself, so that flags and settings cannot differ.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from batch_llm.cli.speech import say, table
from batch_llm.errors import ConfigurationError

if TYPE_CHECKING:
    from batch_llm.simulator import SimulatorConfig

__all__ = ["config_from_flags", "print_settings", "simulate"]


def simulate(host: str, port: int, flags: Sequence[str]) -> None:
    """Serve until Ctrl-C."""
    from batch_llm.simulator import serve

    config = config_from_flags(flags)
    try:
        serve(config, host, port)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


def config_from_flags(flags: Sequence[str]) -> SimulatorConfig:
    """``--requests-per-minute 600 --faults 0.05`` as a configuration. Raises `ConfigurationError`."""
    from pydantic import ValidationError

    from batch_llm.simulator import SimulatorConfig

    values = _pairs(flags, list(SimulatorConfig.model_fields))
    try:
        return SimulatorConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise ConfigurationError(f"{_flag(name)}: {first['msg']}; `batch-llm simulator --settings` lists all") from None


def print_settings() -> None:
    """All flags with their defaults."""
    from batch_llm.simulator import SimulatorConfig

    rows = [
        [
            _flag(name),
            "" if field.is_required() else field.get_default(call_default_factory=True),
            field.description or "",
        ]
        for name, field in SimulatorConfig.model_fields.items()
    ]
    say(table(["flag", "default", "meaning"], rows))


def _pairs(flags: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    rest = list(flags)
    while rest:
        flag, has_value, value = rest.pop(0).partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean {_flag(near[0])}?" if near else ""
            raise ConfigurationError(f"no setting {flag!r}.{hint} `batch-llm simulator --settings` lists all")
        if not has_value and not rest:
            raise ConfigurationError(f"{flag} needs a value")
        text = value if has_value else rest.pop(0)
        values[name] = tuple(text.split(",")) if name == "models" else text
    return values


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
