"""agentrt: the runtime tier between LangGraph and vLLM."""

__version__ = "0.1.0"
