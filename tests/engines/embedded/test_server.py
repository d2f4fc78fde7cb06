"""OpenAI clients get what they expect from the embedded engine, and bad requests get what vLLM would say."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from agentrt.engines.embedded import CostModel, EmbeddedEngine, Reply
from agentrt.engines.wire import LABEL_HEADER, LABEL_KEY, SESSION_HEADER
from agentrt.identity import Identity
from agentrt.testing import eventually

MODEL = "any"
USER = [{"role": "user", "content": "Fix the bug in the parser."}]
SYSTEM = {"role": "system", "content": "You are the coder of a small team. " * 20}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "grep",
            "parameters": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]},
        },
    }
]


@pytest.fixture(scope="module")
def server():
    """One engine for all tests of this file, as fast as it goes."""
    with EmbeddedEngine(time_scale=0, max_model_len=4096) as engine:
        yield engine


@pytest.fixture
def client(server):
    """OpenAI's own client."""
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def http(server):
    """A bare HTTP client."""
    with httpx.Client(base_url=server.base_url, timeout=30) as client:
        yield client


def test_a_chat_completion_is_complete(client):
    """Message, finish reason and usage come as OpenAI's client expects them."""
    answer = client.chat.completions.create(model=MODEL, messages=USER)
    assert answer.model == MODEL
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content.endswith(".")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens is not None


def test_a_stream_says_the_same(client):
    """The chunks of a stream add up to the whole answer, with one finish reason and the usage at the end."""
    whole = client.chat.completions.create(model=MODEL, messages=USER)
    stream = client.chat.completions.create(
        model=MODEL, messages=USER, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert sum(c.choices[0].finish_reason is not None for c in chunks if c.choices) == 1
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({c.id for c in chunks}) == 1


def test_a_stream_without_usage_has_none(client):
    """Usage comes only when it was asked for."""
    chunks = list(client.chat.completions.create(model=MODEL, messages=USER, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


def test_tools_are_called_whole_and_streamed(client):
    """A forced call has the tool's name and JSON arguments that fit, streamed or not."""
    ask = {"model": MODEL, "messages": USER, "tools": TOOLS, "tool_choice": "required"}
    whole = client.chat.completions.create(**ask)
    [call] = whole.choices[0].message.tool_calls
    assert (whole.choices[0].finish_reason, call.function.name) == ("tool_calls", "grep")
    assert set(json.loads(call.function.arguments)) == {"q"}
    deltas = [c.choices[0].delta for c in client.chat.completions.create(**ask, stream=True)]
    [streamed] = [call for delta in deltas for call in delta.tool_calls or []]
    assert (streamed.id, streamed.function.arguments) == (call.id, call.function.arguments)


def test_plain_completions_take_text_and_tokens(client):
    """`/v1/completions` answers both, whole and streamed, and counts tokens as given."""
    for prompt, count in (("Once upon a time", None), ([5, 6, 7, 8], 4)):
        whole = client.completions.create(model=MODEL, prompt=prompt, max_tokens=9)
        assert whole.usage.completion_tokens == 9
        assert whole.choices[0].finish_reason == "length"
        assert count in {None, whole.usage.prompt_tokens}
        stream = client.completions.create(model=MODEL, prompt=prompt, max_tokens=9, stream=True)
        assert "".join(c.choices[0].text for c in stream) == whole.choices[0].text


def test_limits_and_stops_are_honoured(client):
    """Both names of the limit hold, and a stop text ends the reply."""
    for limit in ("max_tokens", "max_completion_tokens"):
        answer = client.chat.completions.create(model=MODEL, messages=USER, **{limit: 5})
        assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (5, "length")
    whole = client.chat.completions.create(model=MODEL, messages=USER).choices[0].message.content
    word = whole.split()[3]
    stopped = client.chat.completions.create(model=MODEL, messages=USER, stop=word)
    assert stopped.choices[0].message.content == whole.split(word)[0]


def test_replies_depend_on_the_prompt_alone(server, client):
    """Neither concurrency, nor identity, salt or cache changes what is said; another seed does."""

    def ask(index):
        extra = {"cache_salt": f"salt {index}", "vllm_xargs": {LABEL_KEY: f"not a label {index}"}}
        answer = client.chat.completions.create(model=MODEL, messages=[SYSTEM, *USER], extra_body=extra)
        return answer.choices[0].message.content

    with ThreadPoolExecutor(16) as threads:
        said = set(threads.map(ask, range(64)))
    assert len(said) == 1
    with EmbeddedEngine(time_scale=0, seed=1) as other:
        body = {"messages": [SYSTEM, *USER]}
        answer = httpx.post(f"{other.base_url}/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] not in said


def test_the_next_turn_finds_prompt_and_reply(http):
    """A conversation that goes on is served from the cache up to the end of the last reply."""
    salt = {"cache_salt": "a conversation"}
    first = http.post("/v1/chat/completions", json={"messages": [SYSTEM, *USER], **salt}).json()
    history = [SYSTEM, *USER, first["choices"][0]["message"], {"role": "user", "content": "Go on."}]
    second = http.post("/v1/chat/completions", json={"messages": history, **salt}).json()
    known = first["usage"]["total_tokens"] - 1  # the last token's KV was never computed
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == known // 16 * 16
    other = http.post("/v1/chat/completions", json={"messages": history, "cache_salt": "another"}).json()
    assert other["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_identity_comes_from_the_label_or_the_header(server, http):
    """`vllm_xargs` goes before the header, and a session id alone names nobody."""
    body, header = Identity(session="in-body", agent="a"), Identity(session="in-header", agent="a")
    headers = {LABEL_HEADER: header.to_label(), SESSION_HEADER: "in-session-header"}
    http.post("/v1/completions", json={"prompt": [3] * 40, "max_tokens": 1}, headers=headers)
    assert server.residency(session="in-header")
    ask = {"prompt": [4] * 40, "max_tokens": 1, "vllm_xargs": {LABEL_KEY: body.to_label()}}
    http.post("/v1/completions", json=ask, headers=headers)
    assert server.residency(session="in-body")[0].blocks == 2
    http.post("/v1/completions", json={"prompt": [6] * 40}, headers={SESSION_HEADER: "in-session-header"})
    assert server.residency(session="in-session-header") == []


def test_models_and_health(client, http):
    """The model list has the model and its length, and health is 200."""
    [model] = client.models.list().data
    assert (model.id, model.max_model_len) == ("agentrt-embedded", 4096)
    assert http.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "field", "said"),
    [
        ("chat/completions", {}, "messages", "required"),
        ("chat/completions", {"messages": []}, "messages", "at least 1"),
        ("chat/completions", {"messages": [{"content": "x"}]}, "messages.0.role", "required"),
        ("chat/completions", {"messages": USER, "n": 2}, "n", "one choice"),
        ("chat/completions", {"messages": USER, "max_tokens": 0}, "max_tokens", "greater than"),
        ("chat/completions", {"messages": USER, "max_tokens": 4096}, "max_tokens", "maximum context length is 4096"),
        ("chat/completions", {"messages": USER, "tool_choice": "required"}, "tool_choice", "no tools"),
        ("chat/completions", {"messages": USER, "cache_salt": ""}, "cache_salt", "at least 1"),
        (
            "chat/completions",
            {"messages": USER, "tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "sed"}}},
            "tool_choice",
            "'sed'",
        ),
        ("chat/completions", {"messages": USER, "vllm_xargs": {"agentrt": {"session": "s"}}}, "vllm_xargs", "valid"),
        ("completions", {"prompt": [3] * 5000}, "prompt", "maximum context length is 4096"),
        ("completions", {"prompt": []}, "prompt", "empty"),
        ("completions", {"prompt": ""}, "prompt", "empty"),
        ("completions", {"prompt": [-1]}, "prompt", "between 0 and"),
        ("completions", {"prompt": [10**12]}, "prompt", "between 0 and"),
    ],
)
def test_bad_requests_are_400_with_the_field(http, path, body, field, said):
    """What cannot be served is refused in OpenAI's shape, naming the parameter."""
    answer = http.post(f"/v1/{path}", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, 400)
    assert error["param"].startswith(field)
    assert said in error["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_bodies_that_are_none_are_400(http, content):
    """Anything that is no JSON object is 400, and the server goes on."""
    answer = http.post("/v1/chat/completions", content=content)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert http.get("/health").status_code == 200


@pytest.mark.parametrize(("key", "status"), [(None, 401), ("wrong", 401), ("secret", 200)])
def test_a_key_guards_what_is_under_v1(key, status):
    """With `api_key` set, completions and control want it; health does not."""
    with EmbeddedEngine(time_scale=0, api_key="secret") as engine:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=engine.base_url, headers=headers) as http:
            assert http.post("/v1/completions", json={"prompt": "x"}).status_code == status
            assert http.get("/v1/agentrt/status").status_code == status
            assert http.get("/health").status_code == 200


class Broken:
    """A responder with a fault."""

    def reply(self, request, rng):
        raise ValueError("the script has no such scene")


def test_a_responder_that_raises_is_503(caplog):
    """The user's own script may fail; the client learns why, the log has the traceback, the server goes on."""
    with EmbeddedEngine(responder=Broken()) as engine:
        answer = httpx.post(f"{engine.base_url}/v1/chat/completions", json={"messages": USER})
        assert answer.status_code == 503
        assert "no such scene" in answer.json()["error"]["message"]
        assert httpx.get(f"{engine.base_url}/health").status_code == 200
    assert "Traceback" in caplog.text


class Talker:
    """A responder that goes on for hours."""

    def reply(self, request, rng):
        return Reply(content="word " * 3000)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_takes_its_request_with_it(stream):
    """Closing the connection aborts the request and frees its blocks."""
    slow = CostModel(step_s=0.01)
    with EmbeddedEngine(responder=Talker(), cost=slow) as engine:
        ask = {"messages": USER, "stream": stream}
        with httpx.Client(base_url=engine.base_url) as http, ThreadPoolExecutor(1) as threads:
            if stream:
                with http.stream("POST", "/v1/chat/completions", json=ask) as response:
                    chunks = response.iter_bytes()
                    next(chunks)
                    assert engine.status().running == 1
            else:
                waiting = threads.submit(http.post, "/v1/chat/completions", json=ask, timeout=0.1)
                assert isinstance(waiting.exception(10), httpx.ReadTimeout)
            eventually(lambda: engine.status().running == 0)
        status = engine.status()
        assert status.counters["aborted"] == 1
        assert status.free_blocks == status.total_blocks
