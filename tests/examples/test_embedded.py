"""The example end to end on the embedded engine, with agentrt and without."""

import asyncio
import importlib
from functools import partial

import pytest
from agentrt_langgraph import instrument

from agentrt.engines.embedded import EmbeddedEngine
from agentrt.runtime import Runtime


@pytest.fixture
def engine():
    with EmbeddedEngine(num_blocks=4000, time_scale=0.02) as engine:
        yield engine


def _graph(team, engine):
    llm = team.chat_model(base_url=f"{engine.base_url}/v1", model="embedded", api_key="none", max_tokens=30)
    return team.build_graph(llm)


def _told(state):
    return [(message.name, message.content) for message in state["messages"]]


def test_conversations_take_turns_of_their_own(team, engine):
    """Hand-offs, loops and tools all happen, and conversations differ in length."""
    graph = _graph(team, engine)
    names = [
        [name for name, _ in _told(graph.invoke({"task": task}, {"configurable": {"thread_id": str(number)}}))]
        for number, task in enumerate(team.TASKS[:8])
    ]
    seen = {name for flow in names for name in flow}
    assert seen >= {"planner", "architect", "coder", "tester", "reviewer", "documenter", "run_tests"}
    assert seen & {"write_file", "read_file", "search_code"}
    assert len({len(flow) for flow in names}) > 2
    assert any(flow.count("reviewer") > 1 for flow in names)


def test_agentrt_changes_nothing_in_a_conversation(team, engine):
    """The instrumented graph says word for word what the plain one says, driven either way, and edges are seen."""
    task, thread = {"task": team.TASKS[2]}, {"configurable": {"thread_id": "same"}}
    plain = _told(_graph(team, engine).invoke(task, thread))
    with Runtime(engine) as runtime:
        graph = instrument(_graph(team, engine), runtime)
        assert _told(graph.invoke(task, thread)) == plain
        assert runtime.flush()
        edges = [(edge.source, edge.target) for edge in runtime.dispatches("same")]
        assert ("architect", "coder") in edges or ("planner", "coder") in edges
        assert ("reviewer", "documenter") in edges
        assert runtime.stats()["faults"] == {}
        assert _told(asyncio.run(graph.ainvoke(task, {"configurable": {"thread_id": "same"}}))) == plain


@pytest.fixture
def script(team):
    """The folder's own script, as a module."""
    return importlib.import_module(f"{team.__name__}.__main__")


def test_the_script_runs(script, capsys, monkeypatch):
    """The folder's own script holds one conversation and tells dispatches and rulings."""
    monkeypatch.setattr(script, "EmbeddedEngine", partial(EmbeddedEngine, time_scale=0.02))
    assert script.main(["--task", "1"]) == 0
    out = capsys.readouterr().out
    assert "engine: embedded" in out
    assert "dispatches: planner -> " in out
    assert "agentrt.signal.run_ended" in out


def test_the_script_says_what_is_wrong(script, capsys):
    """A URL that is none ends in one line and exit code 1."""
    assert script.main(["--base-url", "nonsense"]) == 1
    assert "looks like http://localhost:8000" in capsys.readouterr().err
