"""agentrt for LangGraph: who calls, for which conversation, and what comes next, without touching graph code.

graph = instrument(graph, runtime)          # one graph
@instrumented(runtime)                      # every graph a function builds
{"callbacks": [AgentRTCallbackHandler(runtime)]}
install(runtime)                            # every graph of the process
add_node("a", wrap_node(fn, "planner"))     # the node's agent, said by its own code; `agentrt.agent` says it inside one
"""

from agentrt.ambient import current
from agentrt_langgraph.handler import AgentRTCallbackHandler
from agentrt_langgraph.instrument import install, instrument, instrumented, uninstall
from agentrt_langgraph.nodes import wrap_node

__all__ = ["AgentRTCallbackHandler", "current", "install", "instrument", "instrumented", "uninstall", "wrap_node"]
