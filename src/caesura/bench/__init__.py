"""Benchmarks: workloads, closed-loop replay, policies compared side by side."""

from caesura.bench.engines import EngineCounters, EngineFactory, RunningEngine
from caesura.bench.presets import PRESETS, Preset, load_workload
from caesura.bench.replay import ReplayError, replay
from caesura.bench.run import run_bench
from caesura.bench.settings import BenchSettings
from caesura.bench.stats import BASELINE_POLICY, Percentiles, RunReport
from caesura.bench.workload import Segment, SessionSpec, WorkloadError

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
