"""OpenAI's routes with tools that the server runs: each answer is made by a session."""
