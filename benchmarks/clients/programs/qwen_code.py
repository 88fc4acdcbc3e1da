"""Qwen Code on chat completions."""

from command import run
from common import BASE, KEY, MODEL, question

run(
    *("qwen", "-p", question("qwen"), "--yolo", "--auth-type", "openai"),
    *("--openai-api-key", KEY, "--openai-base-url", BASE, "--model", MODEL),
)
