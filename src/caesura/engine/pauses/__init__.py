"""Paused sessions: their table, their holds on KV blocks, and the decisions about them."""
