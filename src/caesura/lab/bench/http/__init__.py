"""Agents that run their own tools against OpenAI-compatible servers, over HTTP."""
