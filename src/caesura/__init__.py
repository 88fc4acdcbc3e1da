"""Caesura: LLM serving in which a tool call is a pause, not the end of a request."""
