"""What the user sees: live bars on a terminal, plain lines elsewhere. Never asks the system."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.text import Text

from penstock.client import ProgressState
from penstock.demo.search import Found

STEP = 20.0  # percent between two plain lines of one stage


class Display:
    """Use as a context manager around the work; what follows the work is plain output."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, tuple[str | None, float]] = {}
        if console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description}"),
                TextColumn("[cyan]{task.fields[stage]:<10}"),
                BarColumn(),
                TaskProgressColumn(),
                console=console,
            )

    def __enter__(self) -> Display:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bars:
            self._bars.stop()

    def progress(self, name: str, state: ProgressState) -> None:
        """A state of one file's work."""
        stage = state.stage or "waiting" if not state.is_over else state.state
        if self._bars:
            task = self._tasks.get(name)
            if task is None:
                task = self._tasks[name] = self._bars.add_task(name, total=100, stage=stage)
            self._bars.update(task, completed=state.percent, stage=stage)
            return
        told_stage, told = self._told.get(name, (None, 0.0))
        if stage != told_stage or state.percent - told >= STEP:
            self._told[name] = (stage, state.percent)
            self._say(f"{name}: {stage} {state.percent:.0f} %")

    def cached(self, name: str, passages: str) -> None:
        """A file was answered from the cache."""
        self._say(f"{name}: unchanged, {passages} from the cache", "green")

    def changed(self, name: str) -> None:
        """A file has changed since its result was cached."""
        self._say(f"{name}: changed, its cached result is let go", "yellow")

    def failed(self, name: str, reason: str) -> None:
        """A file's job failed."""
        self._say(f"{name}: failed: {reason}", "red")

    def notification(self, title: str, body: str) -> None:
        """A notification came."""
        self._say(f"notification: {title}: {body}", "magenta")

    def late(self, missing: int) -> None:
        """Notifications did not come in time; they stay in the inbox."""
        self._say(f"{missing} notifications have not come yet; they wait in the inbox", "yellow")

    def hits(self, query: str, hits: Sequence[Found]) -> None:
        """The answer to a query."""
        self._heading(f"Search for {query!r}")
        if not hits:
            self._say("nothing fits")
        for hit in hits:
            line = Text(f"{hit.relevance:4.2f}  {hit.where}  ")
            start = len(line)
            line.append(hit.text.replace("\n", " "))
            for begin, end in hit.marks:
                line.stylize("bold yellow", start + begin, start + end)
            self._console.print(line)

    def paths(self, paths: Sequence[Path]) -> None:
        """The files that were exported."""
        self._heading("Exports")
        for path in paths:
            self._say(f"{path}  {path.stat().st_size} bytes")

    def flow(self, name: str, lines: Sequence[str]) -> None:
        """How one file went through the system."""
        self._heading(f"The flow of {name}, from its events")
        for line in lines:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _heading(self, text: str) -> None:
        self._console.print(f"\n{text}", style="bold", highlight=False, markup=False)

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
