"""The engines of a comparison: one for each arm, alike in all else."""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from caesura.engine.config import CaesuraConfig
from caesura.engine.serving.launch import Engine, EngineSettings, start_engine
from caesura.engine.serving.token_engines import InPlaceEngine
from caesura.errors import CaesuraError
from caesura.lab.bench.arms import Arm, Variant, arm
from caesura.lab.bench.engines import EngineCounters, RunningEngine
from caesura.lab.bench.settings import BenchSettings
from caesura.lab.bench.traces import engine_part
from caesura.lab.bench.vllm_metered import METERED, waste_of
from caesura.lab.bench.vllm_resubmitting import ResubmittingEngine
from caesura.lab.models.noise_model import demo_model_path
from caesura.logs import LEVEL_VARIABLE
from caesura.policy import OptionValue, policy_options
from caesura.session import TokenEngine
from caesura.variables import environment

FIT_MEMORY = -1  # vLLM: the longest context that the KV memory can hold


class ArmEngines:
    """Starts the engine of an arm by its name.

    Args:
        settings: what is compared.

    Raises:
        ValueError: there is no such arm, or no engine can run it.
    """

    def __init__(self, settings: BenchSettings) -> None:
        self._settings = settings
        for name in settings.policies:
            if arm(name).is_simulated_only:
                raise ValueError(f"{name} can only be simulated: use caesura simulate")

    async def start(self, name: str) -> RunningEngine:
        """Start one engine; takes 10 to 40 seconds on two cores."""
        chosen = arm(name)
        settings = EngineSettings(
            model=self._settings.model or str(await asyncio.to_thread(demo_model_path)),
            caesura=None if chosen.policy is None else self._config(chosen.policy),
            prefix_caching=chosen.variant is not Variant.NO_PREFIX_CACHE,
            kv_memory_bytes=self._settings.kv_memory_bytes,
            max_model_len=FIT_MEMORY,
            compute_threads=self._settings.threads,
            dtype=self._settings.dtype,
            overrides=METERED if chosen.policy is None else {},
        )
        with engine_log(name) as log:
            engine = start_engine(
                settings, ResubmittingEngine if chosen.policy is None else InPlaceEngine
            )
        return ArmEngine(chosen, engine, log, self._settings.trace_path)

    def _config(self, policy: str) -> CaesuraConfig:
        options = own_options(policy, self._settings.policy_options)
        return CaesuraConfig.parse(
            {
                "policy": policy,
                "policy_options": options,
                "host_memory": self._settings.host_memory_bytes,
                "trace": engine_part(self._settings, policy),
            }
        )


class ArmEngine:
    """One engine of a comparison. Implements `RunningEngine`."""

    def __init__(self, arm: Arm, engine: Engine, log: Path, trace_path: Path | None) -> None:
        self.tokens: TokenEngine = engine.tokens
        self.vocab_size = engine.vocab_size
        self.max_context_tokens = engine.max_context_tokens
        self._arm = arm
        self._engine = engine
        self._log = log
        self._trace_path = trace_path

    async def reset(self) -> None:
        """Forget cached contexts and counters."""
        await self._engine.reset()

    async def counters(self) -> EngineCounters:
        """What was counted since the last reset; stock vLLM counts no pauses."""
        totals = self._engine.counts.totals
        waste = waste_of(totals)
        if self._arm.is_stock:
            return EngineCounters(scheduled_tokens=totals["scheduled_tokens"], waste=waste)
        return EngineCounters(
            scheduled_tokens=totals["scheduled_tokens"],
            held_tokens=int(totals["held_tokens"]),
            copied_tokens=int(totals["copied_tokens"]),
            loaded_tokens=int(totals["loaded_tokens"]),
            pauses=int(totals["pauses"]),
            waste=waste,
        )

    async def shutdown(self) -> None:
        """Stop the engine; the trace of the last run is written first."""
        try:
            if self._trace_path is not None and not self._arm.is_stock:
                await self._engine.reset()
        finally:
            self._engine.shutdown()
        self._log.unlink(missing_ok=True)


def own_options(policy: str, options: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Those of the options that this policy has."""
    known = policy_options(policy)
    return {name: value for name, value in options.items() if name in known}


class EngineStartError(CaesuraError):
    """An engine of the comparison did not start."""


_LOGGING = {
    LEVEL_VARIABLE: "ERROR",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}


@contextlib.contextmanager
def engine_log(name: str) -> Iterator[Path]:
    """Keep what the engine's process writes in a file, so that progress stays readable.

    The process inherits standard error as it is while it starts. If it does not start, the end
    of the file is part of the error.
    """
    path = Path(tempfile.gettempdir()) / f"caesura-engine-{name}-{os.getpid()}.log"
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with path.open("wb") as log:
            os.dup2(log.fileno(), 2)
        with environment(
            _LOGGING | {name: os.environ[name] for name in _LOGGING.keys() & os.environ.keys()}
        ):
            yield path
    except Exception as error:
        lines = path.read_text(errors="replace").splitlines()
        causes = [line for line in lines if "Error" in line][-3:] or lines[-5:]
        raise EngineStartError(
            f"the engine {name!r} did not start: {error}\n  "
            + "\n  ".join(causes)
            + f"\nIts whole log: {path}"
        ) from error
    finally:
        os.dup2(saved, 2)
        os.close(saved)
