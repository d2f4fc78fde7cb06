"""agentrt: the runtime tier between LangGraph and vLLM."""

from agentrt.ambient import Current, agent, current
from agentrt.config import Settings
from agentrt.identity import Dispatch, Identity
from agentrt.policy import Policy
from agentrt.runtime import Runtime

__version__ = "0.1.0"

__all__ = ["Current", "Dispatch", "Identity", "Policy", "Runtime", "Settings", "__version__", "agent", "current"]
