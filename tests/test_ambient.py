"""`agentrt.agent`: where a scope holds, and where it does not; `agentrt.current()`: who is asked."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import inspect
import threading
import weakref
from typing import Any

import pytest

import agentrt
from agentrt import ambient
from agentrt.identity import Identity
from agentrt.plan import NO_PLAN


def here() -> str:
    """Path of the scopes in this context."""
    return "/".join(ambient.names_since(ambient.scope(), None))


def test_scopes_nest_and_leaving_restores():
    """Inside, names are joined; afterwards everything is as before, also after an exception."""
    with agentrt.agent("a"):
        assert here() == "a"
        with contextlib.suppress(KeyError), agentrt.agent("b"):
            assert here() == "a/b"
            raise KeyError
        assert here() == "a"
    assert ambient.scope() is None


def test_an_object_may_be_entered_again():
    """One object can be entered inside itself, and again later."""
    scope = agentrt.agent("a")
    with scope, scope:
        assert here() == "a/a"
    with scope:
        assert here() == "a"
    assert here() == ""


def test_sessions_and_tenants_are_inherited():
    """A scope without session or tenant keeps those of the one around it."""
    with agentrt.agent("a", session="s", tenant="t"), agentrt.agent("b", session="s2"):
        scope = ambient.scope()
        assert scope is not None
        assert (scope.session, scope.tenant) == ("s2", "t")


def test_gathered_tasks_do_not_mix():
    """Tasks that run at once, in one and the same scope object, see only their own scopes."""

    async def work(name: str, both: threading.Barrier | None = None) -> list[str]:
        seen = []
        async with agentrt.agent(name):
            for _ in range(3):
                await asyncio.sleep(0)
                seen.append(here())
            async with shared:
                await asyncio.sleep(0)
                seen.append(here())
        return [*seen, here()]

    async def main() -> Any:
        with agentrt.agent("root"):
            return await asyncio.gather(work("a"), work("b"))

    shared = agentrt.agent("shared")
    assert asyncio.run(main()) == [[f"root/{n}"] * 3 + [f"root/{n}/shared", "root"] for n in "ab"]


def test_threads():
    """A copied context takes the scopes along; a bare thread starts without."""
    seen = []
    with agentrt.agent("a"):
        for run in (contextvars.copy_context().run, lambda f: f()):
            thread = threading.Thread(target=run, args=(lambda: seen.append(here()),))
            thread.start()
            thread.join()
    assert seen == ["a", ""]


def test_decorated_functions():
    """Functions and coroutine functions run inside the scope, and keep name and signature."""

    @agentrt.agent("a")
    def plain(x: int, *, y: int = 2) -> tuple[str, int]:
        """Add."""
        return here(), x + y

    @agentrt.agent("b")
    async def coroutine() -> str:
        await asyncio.sleep(0)
        return here()

    assert plain(1) == ("a", 3)
    assert asyncio.run(coroutine()) == "b"
    assert inspect.iscoroutinefunction(coroutine)
    assert (plain.__name__, plain.__doc__, str(inspect.signature(plain))) == (
        "plain",
        "Add.",
        "(x: int, *, y: int = 2) -> tuple[str, int]",
    )


def test_decorated_generators():
    """A generator's steps run inside the scope, with those it has open; its caller's code does not."""

    @agentrt.agent("a")
    def steps() -> Any:
        got = yield here()
        with agentrt.agent("b"):
            try:
                yield f"{here()} {got}"
            except KeyError:
                yield f"caught in {here()}"
        return here()

    running = steps()
    assert inspect.isgeneratorfunction(steps)
    assert (next(running), here()) == ("a", "")
    with agentrt.agent("caller"):
        assert (running.send(1), here()) == ("a/b 1", "caller")
    assert (running.throw(KeyError()), here()) == ("caught in a/b", "")
    with pytest.raises(StopIteration) as stop:
        next(running)
    assert stop.value.value == "a"


def test_decorated_async_generators():
    """So do an async generator's, and closing it closes the one inside."""
    closed = []

    @agentrt.agent("a")
    async def steps() -> Any:
        try:
            got = yield here()
            with agentrt.agent("b"):
                try:
                    yield f"{here()} {got}"
                except KeyError:
                    yield f"caught in {here()}"
        finally:
            closed.append(here())

    async def main() -> list[str]:
        running = steps()
        seen = [await anext(running), here(), await running.asend(1), await running.athrow(KeyError()), here()]
        await running.aclose()
        return [*seen, *[item async for item in steps()][:1]]

    assert inspect.isasyncgenfunction(steps)
    assert asyncio.run(main()) == ["a", "", "a/b 1", "caught in a/b", "", "a"]
    assert closed == ["a", "a"]


def test_closing_a_decorated_generator():
    """Leaving a decorated generator early runs its `finally`, inside the scope."""
    closed = []

    @agentrt.agent("a")
    def steps() -> Any:
        try:
            yield 1
        finally:
            closed.append(here())

    running = steps()
    next(running)
    running.close()
    assert (closed, here()) == (["a"], "")


def test_decorated_callables():
    """Partials, methods and callable objects can be decorated too."""

    class Thing:
        def __call__(self, x: int) -> str:
            return f"{here()} {x}"

        async def work(self) -> str:
            return here()

    decorate = agentrt.agent("a")
    assert decorate(Thing())(1) == "a 1"
    assert str(inspect.signature(decorate(Thing()))) == "(x: int) -> str"
    assert decorate(functools.partial(Thing(), 2))() == "a 2"
    assert asyncio.run(decorate(Thing().work)()) == "a"


def test_left_in_another_context():
    """A scope that a generator leaves in another context than it entered does no harm there."""

    def steps() -> Any:
        with agentrt.agent("a"):
            yield

    running = steps()
    contextvars.copy_context().run(next, running)
    with agentrt.agent("b"):
        running.close()
        assert here() == "b"


@pytest.mark.parametrize("name", ["", "a/b", "x" * 257, None, 1, "__start__", "__end__"])
def test_bad_names(name):
    """A name that cannot be one level of a path is refused at once, and the message says why."""
    with pytest.raises(ValueError, match=r"name|reserved"):
        agentrt.agent(name)


@pytest.mark.parametrize("bad", [{"session": ""}, {"tenant": 3}, {"session": "x" * 257}])
def test_bad_sessions_and_tenants(bad):
    """So are sessions and tenants."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        agentrt.agent("a", **bad)


class Knows:
    def __init__(self, agent: str | None) -> None:
        self.agent = agent

    def current(self) -> agentrt.Current | None:
        if self.agent is None:
            return None
        return agentrt.Current(identity=Identity(session="s", agent=self.agent), plan=NO_PLAN)


def test_sources_are_asked_in_turn_and_held_weakly(monkeypatch):
    """The first source that knows answers; a source nobody holds is forgotten; without any there is no answer."""
    monkeypatch.setattr(ambient, "_sources", ())
    assert agentrt.current() is None
    silent, knows = Knows(None), Knows("a")
    for source in (silent, knows, knows):
        ambient.register(source)
    assert len(ambient._sources) == 2
    assert agentrt.current().identity.agent == "a"
    gone = weakref.ref(knows)
    del knows, source
    gc.collect()
    assert gone() is None
    assert agentrt.current() is None
