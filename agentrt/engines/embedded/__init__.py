"""The embedded engine: agentrt without a GPU, weights or a key.

Reading order: `engine` (what you start), `server` and `job` (HTTP), `loop` and `scheduler` (time), `pool` (memory),
`responder` (what it says).
"""

from agentrt.engines.embedded.cost import CostModel
from agentrt.engines.embedded.engine import EmbeddedEngine
from agentrt.engines.embedded.responder import Reply, Responder, ResponderRequest, SeededResponder, ToolCall

__all__ = [
    "CostModel",
    "EmbeddedEngine",
    "Reply",
    "Responder",
    "ResponderRequest",
    "SeededResponder",
    "ToolCall",
]
