"""Names of what a pause waits for when that is not a tool."""

CLIENT = "client"
"""The client, for what it has not said."""

HUMAN = "human"
"""A human's answer or approval."""
