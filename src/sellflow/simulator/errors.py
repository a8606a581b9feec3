"""What the simulator and its client raise on purpose."""

from __future__ import annotations

from sellflow.errors import SellflowError


class SimulatorError(SellflowError):
    """Anything that the simulator raises on purpose."""

    code = "simulator.error"


class RefusedError(SimulatorError):
    """The simulated Shopify refuses a request: the message says which rule it breaks."""

    code = "simulator.refused"


class SimulatorUnavailableError(SimulatorError):
    """The simulator does not answer, or broke."""

    code = "simulator.unavailable"
