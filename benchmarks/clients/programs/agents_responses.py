"""OpenAI's Agents SDK on responses, continued by their ids."""

from agents import Agent, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from common import BASE, KEY, MODEL, SYSTEM, get_time, get_weather, question
from openai import AsyncOpenAI

set_tracing_disabled(True)
model = OpenAIResponsesModel(MODEL, AsyncOpenAI(base_url=BASE, api_key=KEY))
tools = [function_tool(get_weather), function_tool(get_time)]
agent = Agent("weather", instructions=SYSTEM, model=model, tools=tools)
print(Runner.run_sync(agent, question(), auto_previous_response_id=True).final_output)
