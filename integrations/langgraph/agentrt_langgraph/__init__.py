"""agentrt for LangGraph: who calls, for which conversation, and what comes next, without touching graph code.

graph = instrument(graph, runtime)          # one graph
@instrumented(runtime)                      # every graph a function builds
{"callbacks": [AgentRTCallbackHandler(runtime)]}
install(runtime)                            # every graph of the process
"""

from agentrt_langgraph.handler import AgentRTCallbackHandler
from agentrt_langgraph.instrument import current, install, instrument, instrumented, uninstall

__all__ = ["AgentRTCallbackHandler", "current", "install", "instrument", "instrumented", "uninstall"]
