"""The functional API: entrypoints and tasks."""

from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.types import Command, RetryPolicy, interrupt

from tests.differential.cases import Kit, case


@task
def double(n: int) -> int:
    return n * 2


@task
async def double_later(n: int) -> int:
    return n * 2


@case(1)
def tasks_in_a_row(_: Kit) -> Any:
    @entrypoint(checkpointer=InMemorySaver())
    def flow(n: int) -> int:
        return double(double(n).result()).result()

    return flow


@case([1, 2, 3], unordered=True)
def tasks_side_by_side(_: Kit) -> Any:
    @entrypoint()
    def flow(numbers: list[int]) -> int:
        return sum(future.result() for future in [double(n) for n in numbers])

    return flow


@case(2)
def async_tasks(_: Kit) -> Any:
    @entrypoint(checkpointer=InMemorySaver())
    async def flow(n: int) -> int:
        return await double_later(await double_later(n))

    return flow


@case(1, 2, 3)
def previous_and_final(_: Kit) -> Any:
    @entrypoint(checkpointer=InMemorySaver())
    def flow(n: int, *, previous: Any = None) -> Any:
        total = (previous or 0) + n
        return entrypoint.final(value=f"sum {total}", save=total)

    return flow


@case(1, alone=True)
def task_retried(kit: Kit) -> Any:
    @task(retry_policy=RetryPolicy(initial_interval=0, jitter=False, retry_on=ValueError))
    def shaky(n: int) -> int:
        kit.attempts += 1
        if kit.attempts == 1:
            raise ValueError("first")
        return n

    @entrypoint()
    def flow(n: int) -> int:
        return shaky(n).result()

    return flow


@case(1)
def task_raises(_: Kit) -> Any:
    @task
    def broken(n: int) -> int:
        raise LookupError(f"no {n}")

    @entrypoint(checkpointer=InMemorySaver())
    def flow(n: int) -> int:
        return broken(n).result()

    return flow


@case(1, Command(resume="yes"))
def approval_in_an_entrypoint(_: Kit) -> Any:
    @entrypoint(checkpointer=InMemorySaver())
    def flow(n: int) -> Any:
        done = double(n).result()
        return done, interrupt({"approve": done})

    return flow
