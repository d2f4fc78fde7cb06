"""The vLLM plugin: eviction that follows the agents, and the control plane `/v1/agentrt`.

Two entry points, both named `agentrt`, so that `VLLM_PLUGINS=agentrt` enables exactly this pair:

* `register` (`vllm.general_plugins`) runs in every vLLM process and puts our mixin in front of the scheduler class
  vLLM chose;
* `endpoint_plugin` (`vllm.endpoint_plugins`) adds the routes to the API server.

Neither breaks the server: what cannot be done is logged in one line and said by `GET /v1/agentrt/capabilities`, and
stock vLLM goes on. `AGENTRT_DISABLED=1` turns both off. Importing this package imports no vLLM.
"""

import logging
from typing import Any

from agentrt.config import Settings
from agentrt.errors import ConfigError

__all__ = ["endpoint_plugin", "register"]

logger = logging.getLogger("agentrt")


def register() -> None:
    """Extend the scheduler class that vLLM will choose. May be called repeatedly; never raises.

    vLLM does not catch what a general plugin raises, so everything is caught here.
    """
    try:
        _log_through_vllm()
        settings = _settings()
        if settings is not None:
            from agentrt_vllm.scheduler import extend_vllm  # noqa: PLC0415 - it imports vLLM

            extend_vllm(settings)
    except Exception:
        logger.exception("agentrt: could not be set up in this vLLM, stock LRU stays")


def endpoint_plugin() -> Any:
    """The object vLLM asks for its routes; it has none when agentrt is disabled. vLLM catches what this raises."""
    from agentrt_vllm.endpoint import AgentRTEndpoint  # noqa: PLC0415 - it imports vLLM

    return AgentRTEndpoint(_settings())


def _settings() -> Settings | None:
    """Settings from the environment; None when agentrt is disabled or they have no meaning."""
    try:
        settings = Settings.load()
    except ConfigError as error:
        logger.error("agentrt: %s; stock LRU stays", error)  # noqa: TRY400 - a person's mistake, not a crash
        return None
    return None if settings.disabled else settings


class _ThroughVLLM(logging.Handler):
    """Shows our lines where and as vLLM shows its own; its processes configure no other logger."""

    def emit(self, record: logging.LogRecord) -> None:
        vllm = logging.getLogger("vllm")
        if vllm.isEnabledFor(record.levelno):
            vllm.handle(record)


def _log_through_vllm() -> None:
    if not logger.handlers:
        logger.addHandler(_ThroughVLLM())
        logger.setLevel(logging.INFO)
