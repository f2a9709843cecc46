"""The provider simulator: an OpenAI-compatible account that costs nothing, for demos, tests and benchmarks.

Belongs here: everything the simulated provider does; it stands alone, knowing only the clock. Not here: our client.
It answers only models named ``simulator/<anything>``, so that no real model is ever answered by a fake. Each rule
cites its source; docs/reference/simulator.md lists what was never compared with the real service.
"""

from batch_llm.simulator.config import SimulatorConfig
from batch_llm.simulator.faults import FaultKind, mixed, parse_faults
from batch_llm.simulator.server import Simulator, serve

__all__ = ["FaultKind", "Simulator", "SimulatorConfig", "mixed", "parse_faults", "serve"]
