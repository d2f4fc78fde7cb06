"""Live progress of the demo, on stderr, so that stdout holds the result alone."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agentrt.evaluation.load import Progress as OnProgress
from agentrt.evaluation.measure import LoadResult


class DemoProgress:
    """One bar per pass, with the hit rate so far. Silent where stderr is no terminal and `quiet`."""

    def __init__(self, *, quiet: bool) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("sessions"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[told]}"),
            console=self.console,
            disable=quiet,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def watch(self, title: str, sessions: int) -> OnProgress:
        """Add a bar; the result is the load generator's `on_progress`."""
        task = self._progress.add_task(title, total=sessions, told="")

        def show(result: LoadResult) -> None:
            prompt = sum(call.prompt_tokens or 0 for call in result.calls)
            cached = sum(call.cached_tokens or 0 for call in result.calls)
            failed = sum(session.error is not None for session in result.sessions)
            told = f"hit rate {cached / prompt:.0%}" if prompt else ""
            told += f", {failed} failed" if failed else ""
            self._progress.update(task, completed=len(result.sessions), told=told)

        return show
