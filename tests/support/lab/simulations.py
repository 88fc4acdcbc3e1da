"""Simulations that several tests run."""

from caesura.lab.sim.settings import SimulationSettings

SWAPPING = SimulationSettings(
    workload="infercept-sample",
    policies=("swap",),
    rates=(6.0,),
    seeds=(0,),
    device="a100-80gb",
    sessions=25,
    scale_tokens=0.25,
    scale_pauses=0.5,
    kv_memory_bytes=2 * 10**9,
    host_memory_bytes=4 * 10**9,
)
"""Short sessions in so little memory that contexts are copied out, and some are computed
again."""
