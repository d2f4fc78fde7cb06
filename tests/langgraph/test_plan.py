"""What a request carries: identity, priority, expected reuse and the tenant's salt, and whose word counts."""

import asyncio
import itertools
import json
import operator
from typing import Annotated, Any, TypedDict

import openai
import pytest
from agentrt_langgraph import inject, instrument, uninstall
from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph

import agentrt
from agentrt.config import Settings
from agentrt.engines.embedded import EmbeddedEngine
from agentrt.engines.wire import Action
from agentrt.plan import RequestPlan, tenant_salts
from agentrt.runtime import Runtime
from agentrt.testing.traffic import eventually


class State(TypedDict, total=False):
    x: Annotated[list[str], operator.add]


INPUT: State = {"x": []}
PROMPT: list[Any] = [{"role": "user", "content": "hi"}]
PLAN = RequestPlan(priority=3, reuse_p=0.25, reuse_s=1.5, cache_salt="pepper")


@pytest.fixture
def run(runtime):
    """Runs code as a node named `work` in session `t`, sync or async, with a full plan."""
    runtime.answer = PLAN

    def go(node: Any) -> None:
        graph = StateGraph(State)
        graph.add_node("work", node)
        graph.add_edge(START, "work")
        observed = instrument(graph.compile(name="desk"), runtime)
        config: Any = {"configurable": {"thread_id": "t"}}
        if asyncio.iscoroutinefunction(node):
            asyncio.run(observed.ainvoke(INPUT, config))
        else:
            observed.invoke(INPUT, config)

    return go


def raw_calls(url: str, **options: Any) -> list[Any]:
    """One request to each path that generates."""
    with openai.OpenAI(base_url=url, api_key="x", max_retries=0) as client:
        return [
            client.chat.completions.create(model="m", messages=PROMPT, **options),
            client.completions.create(model="m", prompt="hi", **options),
            client.responses.create(model="m", input="hi", **options),
        ]


def test_the_whole_plan_on_every_path(run, server):
    """Chat completions, completions and responses carry the same fields: all that reaches vLLM, and nothing nested."""

    def node(_: State) -> State:
        with agentrt.agent("plan"):
            raw_calls(server.url)
        return {}

    run(node)
    assert [request.path for request in server.requests] == [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
    ]
    for step, request in enumerate(server.requests):
        label = dict(request.label)
        assert label.pop("invocation").startswith("work:")
        assert label == {
            "session": "t",
            "agent": "work/plan",
            "parent": "work",
            "workload": "desk",
            "tenant": "default",
            "step": step,
            "priority": 3,
            "reuse_p": 0.25,
            "reuse_s": 1.5,
        }
        assert request.headers["x-session-id"] == "t"
        assert (request.body["priority"], request.body["cache_salt"]) == (-3, "pepper")
        assert list(request.body["vllm_xargs"]) == ["agentrt"]
        assert "pepper" not in json.dumps([request.body["vllm_xargs"], request.headers])


def test_async_requests_carry_it_too(run, server, chat):
    """Async and streamed requests carry the same."""

    async def node(_: State) -> State:
        await chat().ainvoke("h")
        await chat(use_responses_api=True).ainvoke("h")
        async for _part in chat().astream("h"):
            pass
        return {}

    run(node)
    assert [request.body["cache_salt"] for request in server.requests] == ["pepper"] * 3
    assert [request.body["priority"] for request in server.requests] == [-3] * 3


def test_what_current_tells(run, server):
    """`current()` is what the next request carries."""
    told: list[Any] = []

    def node(_: State) -> State:
        told.append(agentrt.current())
        raw_calls(server.url)
        return {}

    run(node)
    label = server.requests[0].label
    assert told[0].plan == PLAN
    identity = told[0].identity
    assert (identity.agent, identity.session, identity.step) == (label["agent"], label["session"], label["step"])
    assert identity.to_label(**told[0].plan.fields()) == server.requests[0].body["vllm_xargs"]["agentrt"]


@pytest.mark.parametrize(("field", "value"), [("cache_salt", "mine"), ("priority", 9), ("cache_salt", None)])
def test_each_field_of_the_users_wins_alone(field, value, run, server):
    """A field the user sets stays theirs, an empty one too; the others are still ours."""
    run(lambda _: raw_calls(server.url, extra_body={field: value}) and {})
    for request in server.requests:
        assert request.body[field] == value
        others = {"cache_salt": "pepper", "priority": -3}
        del others[field]
        assert others.items() <= request.body.items()
        assert request.label["agent"] == "work"


def test_the_users_fields_win_in_the_fallback(run, server, monkeypatch):
    """So it is where the client's hook is gone."""
    inject.disable()
    monkeypatch.setattr(inject, "_proven", None)
    monkeypatch.setattr(inject, "_HOOK", "_renamed_away")

    def node(_: State) -> State:
        raw_calls(server.url, extra_body={"cache_salt": "mine"})
        raw_calls(server.url)
        return {}

    run(node)
    inject.disable()
    assert [request.body["cache_salt"] for request in server.requests] == ["mine"] * 3 + ["pepper"] * 3
    assert {request.body["priority"] for request in server.requests} == {-3}


def test_an_empty_plan_adds_no_field(run, server, runtime):
    """Without priority and salt the body gets the label only."""
    runtime.answer = RequestPlan()
    run(lambda _: raw_calls(server.url) and {})
    for request in server.requests:
        assert not {"priority", "cache_salt"} & request.body.keys()
        assert not {"priority", "reuse_p", "reuse_s"} & request.label.keys()


# --- salts


def test_salts():
    """Each tenant but the default one has a salt of its own, the same everywhere, that vLLM accepts and a key hides."""
    plain = tenant_salts(Settings())
    keyed, other = tenant_salts(Settings(salt_key="sesame")), tenant_salts(Settings(salt_key="s" * 1000))
    names = ["acme", "beta", "a/b@c", "ü\ud800"]
    salts = [salt_of(name) for salt_of in (plain, keyed, other) for name in names]
    assert len(set(salts)) == 12
    assert all(len(salt) == 32 and salt.isalnum() for salt in salts)
    assert plain("acme") == tenant_salts(Settings())("acme") == "12e7212ed81e7a35b6dbdf9c5f643259"
    assert [salt_of("default") for salt_of in (plain, keyed)] == [None, None]
    assert tenant_salts(Settings(tenant_salt=False))("acme") is None


def test_the_salt_key_is_not_shown():
    """The secret does not appear when settings are printed."""
    assert "sesame" not in repr(Settings(salt_key="sesame"))


@pytest.fixture
def desk():
    """A small engine, and a graph on it that answers as one agent for a tenant; returns prompt tokens found cached."""
    threads = itertools.count()
    with EmbeddedEngine(num_blocks=64, time_scale=0) as engine, Runtime(engine) as runtime:
        model = ChatOpenAI(model="m", base_url=f"{engine.base_url}/v1", api_key="x", max_retries=0, max_tokens=4)

        def node(state: State) -> State:
            usage: Any = model.invoke(f"Think hard about it. {'Again. ' * 40} {state['x'][0]}").usage_metadata
            return {"x": [str(usage["input_token_details"]["cache_read"])]}

        graph = StateGraph(State)
        graph.add_node("work", node)
        graph.add_edge(START, "work")
        observed = instrument(graph.compile(name="desk"), runtime)

        def cached(tenant: str, text: str = "") -> int:
            config: Any = {"configurable": {"thread_id": str(next(threads))}, "metadata": {"agentrt_tenant": tenant}}
            return int(observed.invoke({"x": [text]}, config)["x"][1])

        def flood() -> None:
            for number in range(12):
                model.invoke(f"{number} other words entirely, " * 20)

        yield engine, runtime, cached, flood
    uninstall()


def test_tenants_share_no_blocks(desk):
    """Equal prompts of two tenants never meet in the cache, nor with the default tenant's; a tenant's own do."""
    _, _, cached, _ = desk
    first = [cached(tenant) for tenant in ("acme", "beta", "default")]
    again = [cached(tenant) for tenant in ("acme", "beta", "default")]
    assert first == [0, 0, 0]
    assert min(again) > 0
    assert len(set(again)) == 1


def test_a_warmed_anchor_is_its_tenants(desk):
    """What is prefetched for a tenant is found by that tenant, and by nobody else."""
    engine, runtime, cached, flood = desk
    for text in "12":
        cached("acme", text)
    runtime.flush()
    engine.execute([Action(action_id="1", action_type="agentrt.kv.score", payload=_anchor(score=0.0))])
    flood()
    (outcome,) = engine.execute([Action(action_id="2", action_type="agentrt.kv.prefetch", payload=_anchor())])
    assert (outcome.status, outcome.reason) == ("accepted", "")
    eventually(lambda: _resident(engine) > 0, why="the anchor was not computed")
    assert cached("beta", "3") == cached("default", "3") == 0
    assert cached("acme", "3") > 0


def _resident(engine: EmbeddedEngine) -> int:
    return sum(group.blocks for group in engine.residency(agent="work", tenant="acme") if group.kind == "anchor")


def _anchor(**more: Any) -> dict[str, Any]:
    return {"tenant": "acme", "workload": "desk", "agent": "work", **more}


def test_stats_tell_how_requests_are_labelled(desk):
    """`stats()` says by which way requests get their identity."""
    _, runtime, _, _ = desk
    assert runtime.stats()["labelling"] == "hook"
    uninstall()
    assert runtime.stats()["labelling"] == "off"
