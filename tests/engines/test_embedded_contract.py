"""The embedded engine keeps the promises of every engine, asked in process and asked over HTTP."""

import pytest

from agentrt.engines.embedded import EmbeddedEngine
from agentrt.engines.vllm import VLLMEngine
from agentrt.testing import EngineTests


class TestEmbeddedEngine(EngineTests):
    """In process, with a small pool and no waiting."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls):
        with EmbeddedEngine(num_blocks=64, time_scale=0) as engine:
            yield engine


class TestEmbeddedEngineOverHTTP(EngineTests):
    """Through the client that vLLM is asked with, with a key, and an odd pool of small blocks."""

    api_key = "secret"

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls):
        with (
            EmbeddedEngine(num_blocks=75, block_size_tokens=8, time_scale=0, api_key=cls.api_key) as server,
            VLLMEngine(server.base_url, api_key=cls.api_key, timeout_s=30) as client,
        ):
            yield client
