"""Wraps functions so that each of their steps runs inside a context, whatever kind of function they are."""

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])
NewContext = Callable[[], AbstractContextManager[None]]


def each_step(function: Function, context: NewContext) -> Function:
    """A function of the same kind and signature: each call, or each step of a generator, runs inside `context()`.

    A generator enters its context anew for every step, since between steps its caller's code runs. Callable objects
    and partials become functions.
    """
    called = function if inspect.isroutine(function) else getattr(function, "__call__", None)  # noqa: B004 - its kind
    wrap = _wrap_function
    for is_kind, wrap_kind in _KINDS:
        if is_kind(function) or is_kind(called):
            wrap = wrap_kind
    wrapped = wrap(function, context)
    # A callable object has its annotations on the method, a partial none at all.
    source = called if inspect.ismethod(called) and not inspect.ismethod(function) else function
    wrapped.__annotations__ = {}
    functools.update_wrapper(wrapped, source)
    wrapped.__name__ = getattr(function, "__name__", type(function).__name__)
    return cast("Function", wrapped)


def _wrap_function(function: Any, context: NewContext) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        with context():
            return function(*args, **kwargs)

    return call


def _wrap_coroutine(function: Any, context: NewContext) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with context():
            return await function(*args, **kwargs)

    return call


def _wrap_generator(function: Any, context: NewContext) -> Any:
    def generate(*args: Any, **kwargs: Any) -> Any:
        step = context()
        with step:
            steps = function(*args, **kwargs)
        resume, value = steps.send, None
        try:
            while True:
                with step:
                    item = resume(value)
                try:
                    resume, value = steps.send, (yield item)
                except GeneratorExit:
                    raise
                except BaseException as error:
                    resume, value = steps.throw, error
        except StopIteration as stop:
            return stop.value
        finally:
            with step:
                steps.close()

    return generate


def _wrap_async_generator(function: Any, context: NewContext) -> Any:
    async def generate(*args: Any, **kwargs: Any) -> Any:
        step = context()
        with step:
            steps = function(*args, **kwargs)
        resume, value = steps.asend, None
        try:
            while True:
                with step:
                    item = await resume(value)
                try:
                    resume, value = steps.asend, (yield item)
                except GeneratorExit:
                    raise
                except BaseException as error:
                    resume, value = steps.athrow, error
        except StopAsyncIteration:
            return
        finally:
            with step:
                await steps.aclose()

    return generate


_KINDS = (
    (inspect.iscoroutinefunction, _wrap_coroutine),
    (inspect.isgeneratorfunction, _wrap_generator),
    (inspect.isasyncgenfunction, _wrap_async_generator),
)
