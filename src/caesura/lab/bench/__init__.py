"""Benchmarks: workloads, closed-loop replay, policies compared side by side."""
