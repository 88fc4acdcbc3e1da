"""The agent of smolagents that calls tools."""

from common import BASE, KEY, MODEL, get_time, get_weather, question
from smolagents import OpenAIServerModel, ToolCallingAgent, tool

model = OpenAIServerModel(MODEL, api_base=BASE, api_key=KEY)
agent = ToolCallingAgent([tool(get_weather), tool(get_time)], model, max_steps=4)
print(agent.run(question("final")))
