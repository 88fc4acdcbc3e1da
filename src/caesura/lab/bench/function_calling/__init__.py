"""Latency of function calling on the real engine, modes side by side (docs/results/async.md)."""
