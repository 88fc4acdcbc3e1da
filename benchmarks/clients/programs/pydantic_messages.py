"""Pydantic AI on Anthropic's messages."""

from common import KEY, MODEL, SYSTEM, URL, get_time, get_weather, question
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

model = AnthropicModel(MODEL, provider=AnthropicProvider(base_url=URL, api_key=KEY))
agent = Agent(model, instructions=SYSTEM, tools=[get_weather, get_time])
print(agent.run_sync(question()).output)
