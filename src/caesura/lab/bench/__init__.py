"""Benchmarks: workloads, closed-loop replay, policies compared side by side."""

from caesura.lab.bench.engines import EngineCounters, EngineFactory, RunningEngine
from caesura.lab.bench.presets import PRESETS, Preset, load_workload
from caesura.lab.bench.replay import ReplayError, replay
from caesura.lab.bench.run import run_bench
from caesura.lab.bench.settings import BenchSettings
from caesura.lab.bench.stats import BASELINE_POLICY, Percentiles, RunReport
from caesura.lab.bench.workload import Segment, SessionSpec, WorkloadError

__all__ = [
    "BASELINE_POLICY",
    "PRESETS",
    "BenchSettings",
    "EngineCounters",
    "EngineFactory",
    "Percentiles",
    "Preset",
    "ReplayError",
    "RunReport",
    "RunningEngine",
    "Segment",
    "SessionSpec",
    "WorkloadError",
    "load_workload",
    "replay",
    "run_bench",
]
