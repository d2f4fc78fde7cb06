"""Before hundreds of calls go to a user's server: is the model there, does it take tool calls, does it count hits?"""

from typing import Any

import httpx

from agentrt.errors import AgentRTError, KeyRefused

_TOOL_FLAGS = "--enable-auto-tool-choice --tool-call-parser hermes"
_USAGE_FLAG = "--enable-prompt-tokens-details"
_LONG_TEXT = "The same words in the same order give the same blocks. " * 24
"""More than one block of any usual size."""

_PROBE_TOOL = {
    "type": "function",
    "function": {"name": "nothing", "description": "Does nothing.", "parameters": {"type": "object", "properties": {}}},
}


class Preflight:
    """Asks a server's chat API one thing at a time; every answer that would fail the demo is an AgentRTError."""

    def __init__(self, root_url: str, *, api_key: str | None, timeout_s: float = 30.0) -> None:
        self._root_url = root_url
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(base_url=root_url, headers=headers, timeout=timeout_s)

    def run(self, model: str | None, *, use_tools: bool) -> str:
        """Name of the model to use: the one asked for, or the server's first."""
        with self._client:
            model = self._model(model)
            self._probe(model, use_tools=use_tools)
            self._check_usage(self._probe(model, use_tools=use_tools))
        return model

    def _model(self, wanted: str | None) -> str:
        try:
            names = [str(entry["id"]) for entry in self._sent("GET", "/v1/models").json()["data"]]
        except (ValueError, KeyError, TypeError):
            raise AgentRTError(f"{self._root_url}/v1/models answers no list of models") from None
        if wanted is None and names:
            return names[0]
        if wanted is None or (names and wanted not in names):
            raise AgentRTError(f"{self._root_url} has no model {wanted or ''}; it serves {', '.join(names) or 'none'}")
        return wanted

    def _probe(self, model: str, *, use_tools: bool) -> httpx.Response:
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "system", "content": _LONG_TEXT}, {"role": "user", "content": "Hello."}],
            "max_tokens": 1,
        }
        if use_tools:
            body |= {"tools": [_PROBE_TOOL], "tool_choice": "auto"}
        answer = self._sent("POST", "/v1/chat/completions", json=body)
        if answer.is_success:
            return answer
        if use_tools and "tool" in answer.text:
            raise AgentRTError(
                f"{self._root_url} refuses tool calls: start vLLM with {_TOOL_FLAGS}, or use --no-tools here"
            )
        raise AgentRTError(f"{self._root_url} refuses a chat request ({answer.status_code}): {answer.text[:300]}")

    def _check_usage(self, repeated: httpx.Response) -> None:
        """A prompt sent a second time must be told as cached; otherwise every hit rate would read 0."""
        try:
            cached = repeated.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        except (ValueError, KeyError, TypeError):
            cached = 0
        if not cached:
            raise AgentRTError(
                f"{self._root_url} reports no cached tokens: start vLLM with {_USAGE_FLAG}, and with prefix caching on"
            )

    def _sent(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **request)
        except httpx.HTTPError as error:
            raise AgentRTError(f"no answer from {self._root_url}{path}: {error or type(error).__name__}") from None
        if answer.status_code in {401, 403}:
            raise KeyRefused(f"{self._root_url} refuses the API key; export OPENAI_API_KEY=<the server's --api-key>")
        return answer
