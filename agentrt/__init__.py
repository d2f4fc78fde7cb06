"""agentrt: the runtime tier between LangGraph and vLLM."""

from agentrt.config import Settings
from agentrt.identity import Dispatch, Identity
from agentrt.policy import Policy
from agentrt.runtime import Runtime

__version__ = "0.1.0"

__all__ = ["Dispatch", "Identity", "Policy", "Runtime", "Settings", "__version__"]
