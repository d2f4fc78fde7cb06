"""Saying it yourself, `with agentrt.agent("planner"):`, and asking who acts here, `agentrt.current()`.

Scopes live in a context variable: tasks, copied contexts and parallel nodes never mix. This module knows no framework:
an integration reads the scopes with `scope()`, and registers itself as a `Source` of identities.
"""

import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, Self, TypeVar

from agentrt.identity import END, MAX_NAME_CHARS, START, Identity
from agentrt.plan import RequestPlan
from agentrt.stepping import each_step

Function = TypeVar("Function", bound=Callable[..., Any])
Labelling = Literal["off", "hook", "fallback", "absent"]


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """One entered scope. `session` and `tenant` are the innermost that any scope around it gave."""

    name: str | None
    session: str | None
    tenant: str | None
    outer: "Scope | None"
    entered_by: object


_scope: ContextVar[Scope | None] = ContextVar("agentrt_scope", default=None)
scope: Final = _scope.get
"""The innermost scope entered in this context, or None. The variable's own method: it is asked for at every node."""


def names_since(inner: Scope | None, base: Scope | None) -> tuple[str, ...]:
    """Names of the scopes entered after `base`, outermost first; none where `inner` does not descend from it."""
    names: list[str] = []
    while inner is not base:
        if inner is None:
            return ()
        if inner.name is not None:
            names.append(inner.name)
        inner = inner.outer
    return tuple(reversed(names))


class Scoped:
    """Enters a scope. `name` None names nobody, so that only session and tenant change."""

    def __init__(self, name: str | None, *, session: str | None = None, tenant: str | None = None) -> None:
        self.name = name
        self.session = None if session is None else checked("session", session)
        self.tenant = None if tenant is None else checked("tenant", tenant)

    def __enter__(self) -> Self:
        outer = _scope.get()
        session, tenant = self.session, self.tenant
        if outer is not None:
            session, tenant = session or outer.session, tenant or outer.tenant
        _scope.set(Scope(self.name, session, tenant, outer, self))
        return self

    def __exit__(self, *_: object) -> None:
        # Found, not remembered: one object may be entered by many contexts at once, and left in another (a generator).
        entered = _scope.get()
        while entered is not None and entered.entered_by is not self:
            entered = entered.outer
        if entered is not None:
            _scope.set(entered.outer)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def __call__(self, function: Function) -> Function:
        """Decorate a function, coroutine function or generator function of either kind."""
        return each_step(function, lambda: _Carried(self))


class _Carried:
    """A scope that a generator takes from step to step, with those that are open inside it."""

    def __init__(self, scoped: Scoped) -> None:
        self._scoped = scoped
        self._inside: Scope | None = None
        self._outside: Scope | None = None

    def __enter__(self) -> None:
        self._outside = _scope.get()
        if self._inside is None:
            self._scoped.__enter__()
        else:
            _scope.set(self._inside)

    def __exit__(self, *_: object) -> None:
        self._inside = _scope.get()
        _scope.set(self._outside)


class agent(Scoped):  # noqa: N801 - reads as a statement: `with agent("planner"):`
    """LLM calls, tools and sub-graphs inside belong to the agent of this name, under the one that acts here.

        with agentrt.agent("planner"):            # also `async with`
            llm.invoke(...)                       # <enclosing agent>/planner

        @agentrt.agent("critic", session="s1")    # functions, coroutines, generators of both kinds
        async def criticise(text): ...

    Scopes nest: `writer/planner/critic`. `session` and `tenant` say whose these calls are, as the metadata keys
    `agentrt_session` and `agentrt_tenant` do; None keeps those of the run. Works inside nodes of observed graphs;
    around a graph, or without one, it does nothing. It may be entered any number of times, also at once.

    Raises ValueError for a name that is empty, longer than 256 characters, reserved, or contains `/`.
    """

    name: str

    def __init__(self, name: str, *, session: str | None = None, tenant: str | None = None) -> None:
        super().__init__(agent_name(name), session=session, tenant=tenant)


def checked(what: str, value: object) -> str:
    """The value, if it can be an id: a text of 1 to 256 characters. Raises ValueError otherwise."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_CHARS:
        raise ValueError(f"{what} must be a text of 1 to {MAX_NAME_CHARS} characters, not {value!r:.100}")
    return value


def agent_name(value: object) -> str:
    """The value, if it can be one level of an agent path. Raises ValueError otherwise."""
    name = checked("an agent's name", value)
    if "/" in name:
        raise ValueError(
            f"an agent's name cannot contain '/', which separates levels: {name!r:.100}; nest scopes instead"
        )
    if name in (START, END):
        raise ValueError(f"{name!r} is reserved: it stands for the {'start' if name == START else 'end'} of a run")
    return name


# ---- who acts here ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """What a request sent from here would carry."""

    identity: Identity
    plan: RequestPlan


class Source(Protocol):
    """An integration that knows who acts in the current context."""

    def current(self) -> Current | None:
        """The caller here; None where it is nobody this source knows. Has no effect, and never raises."""


_lock = threading.Lock()
_sources: tuple[weakref.ref[Source], ...] = ()
_labelling: Labelling = "off"


def register(source: Source) -> None:
    """Let `current()` ask this source, for as long as something else keeps it alive. Idempotent."""
    global _sources  # noqa: PLW0603 - one context variable per process, one list of those who can read it
    with _lock:
        alive = [ref for ref in _sources if ref() not in (None, source)]
        _sources = (*alive, weakref.ref(source))


def current() -> Current | None:
    """Who is acting here, and what a request sent from here would carry; None outside observed graphs.

    Asking changes nothing: no call is counted, no session begun.
    """
    for ref in _sources:
        source = ref()
        here = source.current() if source is not None else None
        if here is not None:
            return here
    return None


def note_labelling(how: Labelling) -> None:
    """An integration tells how this process's requests get their identity."""
    global _labelling  # noqa: PLW0603 - as above
    _labelling = how


def labelling() -> Labelling:
    """How requests of this process get their identity.

    `hook`: by the OpenAI client's own hook. `fallback`: by the HTTP client under it, which costs more for long
    prompts. `absent`: there is no OpenAI client. `off`: nothing is instrumented.
    """
    return _labelling
