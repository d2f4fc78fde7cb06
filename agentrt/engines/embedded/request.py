"""A request on its way through the scheduler, and what one step did to it."""

from array import array
from dataclasses import dataclass, field

from agentrt.engines.embedded.cost import StepWork
from agentrt.engines.embedded.pool import Block, HashChain
from agentrt.identity import AgentKey, Identity


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """One request: its prompt and, since the reply is known beforehand, the tokens it will produce."""

    request_id: str
    prompt: "array[int]"
    reply: "array[int]"
    identity: Identity | None = None
    cache_salt: str | None = None
    priority: int = 0
    warms: AgentKey | None = None
    """Set on a warm-up of this agent's anchor."""

    arrival: int = 0
    tokens: "array[int]" = field(init=False)
    """Prompt and tokens produced so far."""
    num_computed: int = 0
    num_produced: int = 0
    num_preemptions: int = 0
    num_cached_tokens: int | None = None
    """Prompt tokens found in the cache at first admission; None before it."""
    num_stored_blocks: int = 0
    blocks: list[Block] = field(default_factory=list)
    chain: HashChain = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = array("I", self.prompt)

    @property
    def finished(self) -> bool:
        """Whether every token of the reply was produced."""
        return self.num_produced == len(self.reply)

    @property
    def rank(self) -> tuple[int, int]:
        """Place in the queue; the highest rank is preempted first."""
        return (self.priority, self.arrival)


@dataclass(slots=True, kw_only=True)
class Step:
    """What one step did."""

    work: StepWork = field(default_factory=StepWork)
    produced: list[Request] = field(default_factory=list)
    """Requests that got one more token."""
    finished: list[Request] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)
