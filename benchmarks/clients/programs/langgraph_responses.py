"""LangGraph's agent on responses, continued by their ids."""

from common import BASE, KEY, MODEL, SYSTEM, get_time, get_weather, question
from langchain_openai import ChatOpenAI
from langgraph.prebuilt import create_react_agent

model = ChatOpenAI(
    model=MODEL, base_url=BASE, api_key=KEY, use_responses_api=True, use_previous_response_id=True
)
agent = create_react_agent(model, [get_weather, get_time], prompt=SYSTEM)
print(agent.invoke({"messages": [("user", question())]})["messages"][-1].text)
