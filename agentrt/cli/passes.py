"""One pass of the demo: the same conversations, over a stock engine or with agentrt attached.

On the embedded engine every pass gets a fresh engine. On a server every pass gets a cache salt and a tenant of its own,
and its blocks are given up at the end, so that no pass gains or suffers from another one.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

from agentrt_langgraph import instrument

from agentrt.cli.doctor import control_key
from agentrt.cli.preflight import Preflight
from agentrt.cli.why import Evidence
from agentrt.config import Settings
from agentrt.engines.base import Engine
from agentrt.engines.embedded import EmbeddedEngine
from agentrt.engines.reports import Capabilities
from agentrt.engines.vllm import VLLMEngine
from agentrt.engines.wire import MAX_TTL_S, Action
from agentrt.evaluation.examples import load_example
from agentrt.evaluation.load import LoadGenerator, LoadPlan, Progress
from agentrt.evaluation.measure import LoadResult
from agentrt.evaluation.report import AGENTRT, STOCK
from agentrt.runtime import Runtime

REQUEST_TIMEOUT_S = 600.0
WARM_UP_TIME_SCALE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the command line asked for."""

    sessions: int
    concurrency: int
    seed: int
    blocks: int
    time_scale: float
    max_tokens: int
    use_tools: bool = True
    base_url: str | None = None
    model: str | None = None


@dataclass(slots=True, kw_only=True)
class PassOutcome:
    """What one pass measured, and what the engine and the runtime say about it."""

    mode: str
    load: LoadResult
    capabilities: Capabilities
    evidence: Evidence | None = None
    """Only with agentrt."""


@dataclass(slots=True)
class Demo:
    """Runs passes on one kind of engine."""

    options: DemoOptions
    settings: Settings
    model: str
    example: ModuleType = field(default_factory=lambda: load_example("software_team"))

    @classmethod
    def prepare(cls, options: DemoOptions) -> "Demo":
        """Check the server, where there is one. Raises AgentRTError that says what to do."""
        settings = Settings.load()
        if options.base_url is None:
            return cls(options, settings, "agentrt-embedded")
        with VLLMEngine(options.base_url, api_key=control_key(settings), timeout_s=settings.timeout_s) as engine:
            engine.check()
            root_url = engine.base_url
        preflight = Preflight(root_url, api_key=os.environ.get("OPENAI_API_KEY"))
        return cls(options, settings, preflight.run(options.model, use_tools=options.use_tools))

    def warm_up(self) -> None:
        """One conversation that is not measured: the first of a process or server pays for what later ones find."""
        brief = replace(self.options, sessions=1, concurrency=1, max_tokens=16, time_scale=WARM_UP_TIME_SCALE)
        Demo(brief, self.settings, self.model, self.example).run_pass(STOCK, -1, lambda _: None)

    def run_pass(self, mode: str, number: int, on_progress: Progress) -> PassOutcome:
        """Drive all conversations once."""
        name = f"demo-{os.getpid()}-{number}-{mode}"
        with self._engine() as engine:
            graph = self._graph(engine, salt=name)
            capabilities, before = engine.capabilities(), engine.status()
            if mode != AGENTRT:
                return PassOutcome(mode=mode, load=self._load(graph, on_progress), capabilities=capabilities)
            # A tenant of its own: the pass starts as ignorant as the first one, and leaves nothing to the next.
            settings = self.settings.model_copy(update={"tenant": name})
            with Runtime(engine, settings=settings) as runtime:
                load = self._load(instrument(graph, runtime), on_progress)
                runtime.flush()
                evidence = Evidence.gather(runtime, before=before, after=engine.status())
            _forget_anchors(engine, tenant=name)
            return PassOutcome(mode=mode, load=load, capabilities=capabilities, evidence=evidence)

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        options = self.options
        if options.base_url is not None:
            with VLLMEngine(
                options.base_url, api_key=control_key(self.settings), timeout_s=self.settings.timeout_s
            ) as server:
                yield server
            return
        with EmbeddedEngine(
            num_blocks=options.blocks, seed=options.seed, time_scale=options.time_scale, model=self.model
        ) as embedded:
            yield embedded

    def _graph(self, engine: Engine, *, salt: str) -> Any:
        api_key = os.environ.get("OPENAI_API_KEY", "none") if self.options.base_url else "none"
        llm = self.example.chat_model(
            base_url=f"{engine.base_url}/v1",
            model=self.model,
            api_key=api_key,
            temperature=0,
            max_tokens=self.options.max_tokens,
            max_retries=0,
            timeout=REQUEST_TIMEOUT_S,
            extra_body={"cache_salt": salt},
        )
        return self.example.build_graph(llm, use_tools=self.options.use_tools)

    def _load(self, graph: Any, on_progress: Progress) -> LoadResult:
        options = self.options
        # The same names in every pass: they decide how a conversation goes when its model cannot.
        plan = LoadPlan(
            sessions=options.sessions,
            concurrency=options.concurrency,
            seed=options.seed,
            name=f"demo-{options.seed}",
        )
        return LoadGenerator(graph, self._inputs, plan, on_progress=on_progress).run()

    @property
    def _inputs(self) -> Callable[[int], dict[str, str]]:
        tasks, seed = self.example.TASKS, self.options.seed
        return lambda number: {"task": tasks[(number + seed) % len(tasks)]}


def _forget_anchors(engine: Engine, *, tenant: str) -> None:
    """Let the blocks of a pass go first on a server that serves on.

    Nobody can hit them any more, for their salt is gone; still valued, they would leave the stock pass that follows
    a smaller pool than it would have without agentrt.
    """
    actions = [
        Action(
            action_id=anchor.agent,
            action_type="agentrt.kv.score",
            payload={"tenant": tenant, "agent": anchor.agent, "score": 0.0, "ttl_s": MAX_TTL_S},
        )
        for anchor in engine.status(tenant=tenant).anchors
    ]
    if actions:
        engine.execute(actions)
