"""Flags of `batch-llm simulator`."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from batch_llm.cli.simulator import config_from_flags
from batch_llm.errors import ConfigurationError
from batch_llm.simulator import SimulatorConfig

Cli = Callable[..., Any]


def test_every_setting_is_a_flag_of_its_name(cli: Cli) -> None:
    listed = [line.split()[0] for line in cli("simulator", "--settings").out.splitlines()[2:]]
    assert listed == [f"--{name.replace('_', '-')}" for name in SimulatorConfig.model_fields]


def test_flags_become_settings() -> None:
    flags = ["--requests-per-minute", "600", "--burst-s=0", "--faults", "0.05", "--models", "simulator/a,simulator/b"]
    config = config_from_flags(flags)
    assert (config.requests_per_minute, config.burst_s) == (600, 0)
    assert config.models == ("simulator/a", "simulator/b")
    assert sum(config.faults.values()) == pytest.approx(0.05)
    assert config_from_flags([]) == SimulatorConfig()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--request-per-minute", "5"], "--requests-per-minute"),
        (["--requests-per-minute"], "needs a value"),
        (["--requests-per-minute", "fast"], "--requests-per-minute"),
        (["--requests-per-minute", "-5"], "--requests-per-minute"),
        (["--faults", "no_such=0.5"], "--faults"),
        (["stray"], "stray"),
    ],
)
def test_a_wrong_flag_is_named(cli: Cli, flags: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        config_from_flags(flags)
    said = cli("simulator", *flags)
    assert said.code == 2
    assert words in said.err


def test_a_port_that_is_taken_is_told(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = cli("simulator", "--port", str(port))
    assert said.code == 2
    assert f"127.0.0.1:{port}" in said.err
