"""Clients that run their own tools: exact continuations, and reports."""
