"""Responses over a WebSocket: `client.responses.connect()` of OpenAI's client."""
