"""`caesura simulate`."""

from typing import Annotated

from cyclopts import App
from pydantic import PositiveInt

from caesura.cli.extras import Extra, require
from caesura.cli.options import FLATTENED, command_line, examples
from caesura.lab.sim.call_settings import CallSimulationSettings
from caesura.lab.sim.settings import SimulationSettings

app = App(
    "simulate",
    help_epilogue=examples(
        "caesura simulate --policies stock,preserve,swap,infinite --rates 5,7,9",
        "caesura simulate --kv-memory 50GB --host-memory 8GB --json out/simulation.json",
        "caesura simulate --engines 4 --router least --policies stock,min-waste --rates 8",
        "caesura simulate --engines 4 --rates 8 --policies min-waste --fail 40:0 --drain 90:1",
        "caesura simulate --engines 1000 --fluid --stale 0.2 --policies stock,min-waste --rates 8",
    ),
)


@app.default
def simulate(
    *,
    settings: Annotated[SimulationSettings | None, FLATTENED] = None,
    processes: PositiveInt | None = None,
) -> None:
    """Compare policies in virtual time: the scheduler that serves, on a device that is modelled.

    No GPU and no model is needed. docs/explanation/simulator.md says what is modelled and what is
    not.

    Args:
        processes: Runs at once. Default: number of cores.
    """
    require(Extra.LAB)
    from caesura.lab.sim.devices import simulated_device
    from caesura.lab.sim.simulate import run_simulation

    settings = settings or SimulationSettings()
    device = simulated_device(settings.device, settings.model, settings.tensor_parallel)
    run_simulation(settings.on(device), device.profile, command=command_line(), processes=processes)


calls = App(
    "calls",
    help_epilogue=examples(
        "caesura simulate calls --data bfcl --latency paper --cases 66",
        "caesura simulate calls --data bfcl --modes requests,async --request-ms 310 --token-ms 5",
    ),
)
app.command(calls)


@calls.default
def simulate_calls(*, settings: Annotated[CallSimulationSettings | None, FLATTENED] = None) -> None:
    """Compare modes of function calling in virtual time, at several speeds of decoding.

    The sessions and the scheduler are those that serve; only the device is modelled, and the clock
    jumps. Tokens are forced along known answers, as in `caesura bench calls`.
    """
    require(Extra.LAB)
    from caesura.lab.sim.calls import run_call_simulation

    run_call_simulation(settings or CallSimulationSettings(), command=command_line())
