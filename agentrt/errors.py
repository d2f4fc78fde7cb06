"""What can go wrong, as one tree.

    AgentRTError
    ├── ConfigError            a setting has no meaning; names the variable and what is allowed
    └── EngineError            the engine did not do what was asked
        ├── EngineUnreachable  no answer: wrong URL, server down, timeout
        ├── PluginAbsent       a server answers, but without /v1/agentrt
        ├── KeyRefused         the server wants another API key
        ├── ProtocolMismatch   the plugin speaks another protocol version
        └── ActionRefused      the server refused a message as malformed or too large

None of these ever reaches a user's graph: the runtime catches, counts and logs them once. They are
raised only where a person asked (a constructor, `VLLMEngine.check()`, the command line).
"""


class AgentRTError(Exception):
    """Base of every error agentrt raises."""


class ConfigError(AgentRTError, ValueError):
    """A setting has no meaning. The message names the variable and the allowed values."""


class EngineError(AgentRTError):
    """The engine did not do what was asked."""


class EngineUnreachable(EngineError):  # noqa: N818 - reads as a statement: "EngineUnreachable: ..."
    """No answer from the engine: wrong URL, server down, or a timeout."""


class PluginAbsent(EngineError):  # noqa: N818
    """A server answers at this URL, but without the `/v1/agentrt` routes."""


class KeyRefused(EngineError):  # noqa: N818
    """The server wants another API key."""


class ProtocolMismatch(EngineError):  # noqa: N818
    """The server's plugin speaks another protocol version."""


class ActionRefused(EngineError):  # noqa: N818
    """The server refused a message as malformed (422) or too large (413); the message names the field."""
