"""What all programs share: the server, the question, and two tools."""

import os

URL = os.environ["CLIENT_URL"]
BASE = f"{URL}/v1"
MODEL = "demo"
KEY = "none"
SYSTEM = "You answer questions about the weather and the time. " * 8


def question(task: str = "tools") -> str:
    """The task, as a user puts it."""
    return f"[[{task}]] What are the weather and the time in Berlin?"


def get_weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: its name.
    """
    return f"it rains in {city}"


def get_time(city: str) -> str:
    """The local time in a city.

    Args:
        city: its name.
    """
    return f"it is noon in {city}"


def run(name: str, arguments: dict[str, str]) -> str:
    """A tool by its name."""
    return {"get_weather": get_weather, "get_time": get_time}[name](**arguments)


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NAMES = ("get_weather", "get_time")
