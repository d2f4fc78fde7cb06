"""The scheduler is taken over only when every seam is there; otherwise it stays exactly as vLLM made it."""

import logging
from types import SimpleNamespace

import agentrt_vllm
import pytest

from agentrt.kv.queue import OrderedFreeQueue


def test_the_take_over_changes_nothing_about_the_free_blocks(stock, extended):
    """After the take-over the same blocks are free, in the same order, in our queue."""
    ours, theirs = extended().pool, stock().pool
    assert type(ours.free_block_queue).__name__ == "OrderedFreeQueue"
    order = [block.block_id for block in ours.free_block_queue.get_all_free_blocks()]
    assert order == [block.block_id for block in theirs.free_block_queue.get_all_free_blocks()]
    assert ours.get_num_free_blocks() == theirs.get_num_free_blocks() == 64


def test_capabilities_say_that_the_order_is_ours(extended):
    """A scheduler that was taken over reports order `agentrt`, its version, its blocks and every action."""
    answer = extended(num_blocks=48).call("capabilities")
    assert answer["order"] == "agentrt"
    assert answer["degraded"] == []
    assert answer["num_blocks"] == 48
    assert answer["block_size_tokens"] == 32
    assert "agentrt.kv.prefetch" in answer["actions"]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("BlockPool", "_maybe_evict_cached_block"),
        ("BlockPool", "cache_full_blocks"),
        ("BlockPool", "reset_prefix_cache"),
        ("BlockPool", "evict_blocks"),
        ("KVCacheManager", "allocate_slots"),
        ("KVCacheManager", "free"),
    ],
)
def test_a_missing_name_leaves_stock_lru(vllm, extended, monkeypatch, caplog, owner, name):
    """Without a name we rely on, vLLM's own queue stays, one log line names it, and so do the capabilities."""
    monkeypatch.delattr(getattr(vllm, owner), name)
    with caplog.at_level(logging.WARNING, "agentrt"):
        simulation = extended()
    assert_untouched(simulation, f"{owner}.{name}", caplog)


def test_a_new_method_of_the_queue_leaves_stock_lru(vllm, extended, monkeypatch, caplog):
    """A method our queue does not have is one that somebody will call: the plugin stands back."""
    monkeypatch.setattr(vllm.FreeKVCacheBlockQueue, "rotate", lambda self: None, raising=False)
    with caplog.at_level(logging.WARNING, "agentrt"):
        simulation = extended()
    assert_untouched(simulation, "FreeKVCacheBlockQueue.rotate", caplog)


def test_another_signature_leaves_stock_lru(vllm, extended, monkeypatch, caplog):
    """The first four parameters of cache_full_blocks are read by the hook, so they are checked."""
    monkeypatch.setattr(vllm.BlockPool, "cache_full_blocks", lambda self, blocks, request, start, end: None)
    with caplog.at_level(logging.WARNING, "agentrt"):
        simulation = extended()
    assert_untouched(simulation, "cache_full_blocks", caplog)


def test_another_order_at_take_over_leaves_stock_lru(extended, monkeypatch, caplog):
    """The self-test compares our queue with vLLM's before it is swapped in."""
    monkeypatch.setattr(OrderedFreeQueue, "get_all_free_blocks", lambda self: list(self.iter_blocks_after(None))[::-1])
    with caplog.at_level(logging.WARNING, "agentrt"):
        simulation = extended()
    assert_untouched(simulation, "order at take-over", caplog)


@pytest.mark.parametrize(("version", "untouched"), [("0.27.1", True), ("0.28.0", False), ("1.4.0", False)])
def test_versions_below_the_oldest_supported_are_left_alone(extended, monkeypatch, caplog, version, untouched):
    """Below 0.28 the plugin stands back; a version newer than the tested ones is warned about, and used."""
    monkeypatch.setattr("vllm.__version__", version)
    with caplog.at_level(logging.WARNING, "agentrt"):
        answer = extended().call("capabilities")
    assert (answer["order"] == "lru") is untouched
    assert ("newer than the newest tested" in caplog.text) is (version == "1.4.0")


def test_without_prefix_caching_there_is_nothing_to_order(vllm, extended, monkeypatch, caplog):
    """A server with prefix caching off keeps its own queue."""
    monkeypatch.setattr(vllm.config.cache_config, "enable_prefix_caching", False)
    with caplog.at_level(logging.WARNING, "agentrt"):
        simulation = extended()
    assert_untouched(simulation, "prefix caching", caplog)


def test_other_kinds_of_attention_are_left_alone(extended, caplog):
    """A sliding window drops blocks in mid-request, which ownership does not cover: stock LRU stays."""
    with caplog.at_level(logging.WARNING, "agentrt"):
        simulation = extended(spec="SlidingWindowSpec")
    assert_untouched(simulation, "full-attention", caplog)


def test_registering_twice_extends_once(vllm, monkeypatch):
    """VLLM may load a plugin several times in one process."""
    config = vllm.SchedulerConfig
    monkeypatch.setattr(config, "get_scheduler_cls", config.get_scheduler_cls)
    monkeypatch.setattr(vllm.EngineCore, "agentrt_call", None, raising=False)
    agentrt_vllm.register()
    once = config.get_scheduler_cls
    agentrt_vllm.register()
    assert config.get_scheduler_cls is once
    chosen = vllm.config.scheduler_config.get_scheduler_cls()
    assert [base.__name__ for base in chosen.__mro__[:2]] == [f"AgentRT{chosen.__mro__[2].__name__}", "AgentRTMixin"]
    assert chosen is vllm.config.scheduler_config.get_scheduler_cls()


@pytest.mark.parametrize(("name", "value"), [("AGENTRT_DISABLED", "1"), ("AGENTRT_RETAIN_MAX_SHARE", "7")])
def test_disabled_or_misconfigured_it_does_nothing(vllm, monkeypatch, caplog, name, value):
    """AGENTRT_DISABLED=1, or a setting without meaning, leaves vLLM alone; the latter is named in the log."""
    before = vllm.SchedulerConfig.get_scheduler_cls
    monkeypatch.setenv(name, value)
    with caplog.at_level(logging.ERROR, "agentrt"):
        agentrt_vllm.register()
    assert vllm.SchedulerConfig.get_scheduler_cls is before
    assert ("AGENTRT_RETAIN_MAX_SHARE='7'" in caplog.text) is (name == "AGENTRT_RETAIN_MAX_SHARE")
    app = SimpleNamespace(router=SimpleNamespace(routes=[]))
    agentrt_vllm.endpoint_plugin().attach_router(app)
    assert app.router.routes == []


def test_register_survives_whatever_happens(vllm, monkeypatch, caplog):
    """An exception inside register() would kill the server, so none leaves it."""
    monkeypatch.delattr("vllm.config.SchedulerConfig.get_scheduler_cls")
    agentrt_vllm.register()
    assert "stock LRU stays" in caplog.text


def assert_untouched(simulation, seam, caplog):
    """VLLM's own queue and methods are in place, and it is said once why."""
    pool = simulation.pool
    assert type(pool.free_block_queue).__name__ == "FreeKVCacheBlockQueue"
    assert "get_new_blocks" not in vars(pool)
    answer = simulation.call("capabilities")
    assert answer["order"] == "lru"
    assert answer["actions"] == []
    (line,) = [r.getMessage() for r in caplog.records if r.name == "agentrt" and "stock LRU stays" in r.getMessage()]
    assert seam in line
    assert "stock LRU stays" in answer["degraded"][0]
    status = simulation.call("status")
    assert (status["order"], status["free_blocks"]) == ("lru", 64)
    outcome = simulation.call("execute", message_id="m", actions=[{"action_id": "a", "action_type": "x"}])
    assert outcome["outcomes"][0]["outcome"] == "rejected"
