"""What the simulator and its client raise on purpose."""

from __future__ import annotations

from sellflow.errors import SellflowError


class RefusedError(SellflowError):
    """The simulated Shopify refuses a request: the message says which rule it breaks."""

    code = "simulator.refused"


class SimulatorUnavailableError(SellflowError):
    """The simulator does not answer, or broke."""

    code = "simulator.unavailable"
