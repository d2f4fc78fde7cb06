"""Checks that ship with agentrt, for those who write an engine of their own.

    from agentrt.testing import EngineTests

    class TestMyEngine(EngineTests):
        @pytest.fixture(scope="class")
        @classmethod
        def engine(cls):
            with MyEngine(...) as engine:
                yield engine

Needs pytest, and an engine whose server speaks OpenAI's `/v1/completions` with token ids.
"""

import pytest

# Without this a failing check would print a bare AssertionError.
for module in ("action_checks", "engine_tests", "message_checks", "traffic"):
    pytest.register_assert_rewrite(f"agentrt.testing.{module}")

from agentrt.testing.engine_tests import EngineTests  # noqa: E402
from agentrt.testing.traffic import Complete, HTTPCompletions, Traffic, eventually  # noqa: E402

__all__ = ["Complete", "EngineTests", "HTTPCompletions", "Traffic", "eventually"]
