"""The embedded engine keeps the promises of every engine."""

import pytest

from agentrt.engines.embedded import EmbeddedEngine
from agentrt.testing import EngineTests


class TestEmbeddedEngine(EngineTests):
    """In process, with the smallest pool the checks allow room in and no waiting."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls):
        with EmbeddedEngine(num_blocks=64, time_scale=0) as engine:
            yield engine
