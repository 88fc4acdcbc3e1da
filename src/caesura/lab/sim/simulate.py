"""One simulation from settings to files: what `caesura simulate` does.

Runs are spread over processes of their own. One other process imports vLLM, once, and they are its
forks; this one does not.
"""

import logging
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from itertools import product
from multiprocessing.queues import SimpleQueue

from rich.console import Console

from caesura.lab.bench.arrivals import ArrivalPlan, Arrivals
from caesura.lab.bench.display import SimulationDisplay
from caesura.lab.bench.plots import rate_figures
from caesura.lab.bench.replay import ReplayProgress
from caesura.lab.bench.results import Results
from caesura.lab.bench.stats import RunPlan, RunReport, place_in
from caesura.lab.bench.traces import simulated_parts, traced
from caesura.lab.machine import Machine, this_machine
from caesura.lab.models.noise_model import demo_model_path
from caesura.lab.results_file import Origin
from caesura.lab.sim.report import FleetReport
from caesura.lab.sim.settings import SimulationSettings
from caesura.lab.sim.simulation import SimulatedOutcome, SimulatedRun, usable_kv_tokens
from caesura.policy.profile import FIGURES, DeviceProfile
from caesura.processes import end_with_parent
from caesura.variables import environment

_POLL_SECONDS = 0.2
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


@dataclass(frozen=True, slots=True)
class SimulatedMachine(Machine):
    """Where a simulation ran, and what it simulated.

    Attributes:
        simulated: the device and the model, and whether the profile was measured.
        profile: its figures; `profile_defaults` names those that are defaults.
        steps, steps_per_second: of the simulator, over all runs; per second of one process.
    """

    simulated: str
    profile: dict[str, float]
    profile_defaults: list[str]
    steps: int = 0
    steps_per_second: float | None = None


def run_simulation(
    settings: SimulationSettings,
    profile: DeviceProfile,
    *,
    command: str,
    processes: int | None = None,
    console: Console | None = None,
) -> Sequence[RunReport]:
    """Simulate policies, show the table and write JSON, plots and report.md.

    The JSON file is rewritten after each run. However it ends, on Ctrl-C too, what is known
    until then is shown and written, and the exception goes on to the caller.

    Args:
        settings: what to run and where results go.
        profile: the device with its model.
        command: the command line, to stand beside the results.
        processes: how many runs at once; None for as many as there are cores.
        console: where progress and the table are shown.

    Returns:
        The figures of all runs.

    Raises:
        ValueError: the workload or the memory cannot be used.
        ReplayError: a scheduler did not do what was asked.
        KeyboardInterrupt: it was stopped.
    """
    machine = this_machine()
    runs = plan_simulation(settings, profile)
    plans = [run.plan for run in runs]
    simulated = simulated_machine(machine, profile, [])
    origin = Origin(command, simulated)
    report = FleetReport(settings, len(plans), rate_figures)
    results = Results[SimulatedOutcome](settings, origin, report, place_in(plans))
    display = SimulationDisplay(len(runs), console)
    try:
        with traced(settings, plans, simulated_parts, display.console), display:
            for outcome in _outcomes(runs, processes or machine.cores, display):
                simulated = simulated_machine(machine, profile, [*results.outcomes, outcome])
                results.origin = replace(origin, machine=simulated)
                results.add(outcome)
    finally:
        results.publish(display.console)
        if results.outcomes:
            display.console.print(
                f"Simulated: {simulated.simulated}; {simulated.steps_per_second} steps per second "
                "and process."
            )
    return [outcome.report for outcome in results.outcomes]


def plan_simulation(settings: SimulationSettings, profile: DeviceProfile) -> list[SimulatedRun]:
    """All runs: by seed, by rate, policies in the order given.

    Raises:
        ValueError: the workload or the memory cannot be used.
    """
    max_context_tokens = usable_kv_tokens(settings, profile)
    if settings.max_context_tokens is not None:
        max_context_tokens = min(max_context_tokens, settings.max_context_tokens)
    model_path = str(demo_model_path())
    return [
        SimulatedRun(
            RunPlan(policy, seed, rate), settings, profile, model_path, arrivals, max_context_tokens
        )
        for seed, rate, arrivals in _arrivals(settings, max_context_tokens)
        for policy in settings.policies
    ]


def simulated_machine(
    machine: Machine, profile: DeviceProfile, outcomes: Sequence[SimulatedOutcome]
) -> SimulatedMachine:
    """This machine, with what it simulates."""
    seconds = sum(outcome.cpu_seconds for outcome in outcomes)
    steps = sum(outcome.report.steps for outcome in outcomes)
    source = "measured" if profile.measured else "default (data sheets)"
    return SimulatedMachine(
        **asdict(machine),
        simulated=f"{profile.model} on {profile.name}, profile: {source}",
        profile={name: getattr(profile, name) for name in FIGURES},
        profile_defaults=[name for name in FIGURES if profile.source(name) == "default"],
        steps=steps,
        steps_per_second=round(steps / seconds, 1) if seconds else None,
    )


def _arrivals(
    settings: SimulationSettings, max_context_tokens: int
) -> Iterator[tuple[int, float, Arrivals]]:
    plan = ArrivalPlan(
        settings.workload, settings.scale_tokens, settings.scale_pauses, max_context_tokens
    )
    for seed, rate in product(settings.seeds, settings.rates):
        if settings.sessions is not None:
            arrivals = plan.first(settings.sessions, rate * settings.engines, seed)
        else:
            arrivals = plan.until(settings.horizon_seconds, rate * settings.engines, seed)
        yield seed, rate, arrivals


_SIMULATED_RUN = "caesura.lab.sim.simulated_run"


def _outcomes(
    runs: Sequence[SimulatedRun], processes: int, display: SimulationDisplay
) -> Iterator[SimulatedOutcome]:
    """Outcomes as they come, of runs in other processes; the longest ones are started first."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_SIMULATED_RUN])
    progress: SimpleQueue[tuple[RunPlan, ReplayProgress]] = context.SimpleQueue()
    others = set(multiprocessing.active_children())
    with environment(_ENVIRONMENT):
        executor = ProcessPoolExecutor(
            min(processes, len(runs)), context, initializer=_start_worker, initargs=(progress,)
        )
        try:
            by_rate = sorted(runs, key=lambda run: -run.plan.rate)
            pending: set[Future[SimulatedOutcome]] = {executor.submit(_run, r) for r in by_rate}
            while pending:
                done, pending = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
                while not progress.empty():
                    display.running(*progress.get())
                for future in done:
                    outcome = future.result()
                    display.done(outcome.plan)
                    yield outcome
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise
        executor.shutdown()


_progress: "SimpleQueue[tuple[RunPlan, ReplayProgress]] | None" = None


def _start_worker(progress: "SimpleQueue[tuple[RunPlan, ReplayProgress]]") -> None:
    """In a new process: Ctrl-C is the parent's business, and vLLM says only what matters."""
    global _progress
    _progress = progress
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("vllm").setLevel(logging.ERROR)


def _run(run: SimulatedRun) -> SimulatedOutcome:
    from caesura.lab.sim.simulated_run import simulate

    queue = _progress
    assert queue is not None
    return simulate(run, lambda progress: queue.put((run.plan, progress)))
