"""Pydantic AI on chat completions."""

from common import BASE, KEY, MODEL, SYSTEM, get_time, get_weather, question
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=BASE, api_key=KEY))
agent = Agent(model, instructions=SYSTEM, tools=[get_weather, get_time])
print(agent.run_sync(question()).output)
