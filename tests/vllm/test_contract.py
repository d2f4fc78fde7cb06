"""A real vLLM server with the plugin keeps the contract of every engine."""

import pytest

from agentrt.engines.vllm import VLLMEngine
from agentrt.testing import EngineTests

pytestmark = pytest.mark.vllm


class TestVLLM(EngineTests):
    @pytest.fixture
    def engine(self, plugin_server):
        # A control call waits for the engine's running step, and here that runs on two slow cores.
        with VLLMEngine(plugin_server.base_url, timeout_s=30) as engine:
            yield engine

    def test_it_says_what_it_runs_on(self, engine, plugin_server):
        """Capabilities carry the engine's version and exactly the blocks the server was started with."""
        capabilities = engine.check()
        assert capabilities.engine == "vllm"
        assert capabilities.engine_version.startswith("0.")
        assert (capabilities.num_blocks, capabilities.block_size_tokens) == (plugin_server.num_blocks, 32)
