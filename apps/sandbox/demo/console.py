"""What the demo shows: its stages with their durations, live on a terminal, line by line elsewhere."""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text


@dataclass
class Stage:
    """One stage: running until it has an end."""

    name: str
    title: str
    note: str = ""
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    failed: bool = False

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.started


class Progress:
    """The stages so far. Use it as a context manager around all of them."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.stages: list[Stage] = []
        self._began = time.monotonic()
        self._spinner = Spinner("dots")
        self._live: Live | None = None
        self._drawn = 0  # stages that are on the screen for good

    def __enter__(self) -> Self:
        self.resume()
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def resume(self) -> None:
        """Draw the stages, where there is a terminal to draw on."""
        if self.console.is_terminal and self._live is None:
            self._live = Live(get_renderable=self._render, console=self.console, refresh_per_second=8)
            self._live.start()

    def pause(self) -> None:
        """Leave the stages as they are on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._drawn = len(self.stages)

    @contextlib.contextmanager
    def stage(self, name: str, title: str) -> Iterator[Stage]:
        """Measure a stage and show it while it runs."""
        stage = Stage(name, title)
        self.stages.append(stage)
        self._line(f"{title} …")
        try:
            yield stage
        except BaseException:
            stage.failed = True
            raise
        finally:
            stage.ended = time.monotonic()
            note = f": {stage.note}" if stage.note else ""
            self._line(f"{title} {'FAILED' if stage.failed else 'done'} in {stage.seconds:.1f} s{note}")

    def tell(self, stage: Stage, note: str) -> None:
        """Say what a stage is doing."""
        if note != stage.note:
            stage.note = note
            self._line(f"  {note}")

    def say(self, text: str = "", style: str = "") -> None:
        """Print a line between the stages, or below them."""
        self.console.print(Text(text, style=style))

    def save(self, path: Path, **more: object) -> None:
        """Write each stage's seconds as JSON."""
        stages = [{"name": stage.name, "seconds": round(stage.seconds, 2)} for stage in self.stages]
        total = round(time.monotonic() - self._began, 2)
        path.write_text(json.dumps({"total": total, "stages": stages, **more}, indent=2) + "\n")

    def _line(self, text: str) -> None:
        if self._live is None:
            elapsed = time.monotonic() - self._began
            self.console.print(Text(f"{elapsed:6.1f} s  {text}"))

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
        for stage in self.stages[self._drawn :]:
            mark: RenderableType = self._spinner
            if stage.ended is not None:
                mark = Text("✗", style="red") if stage.failed else Text("✓", style="green")
            duration = Text(f"{stage.seconds:.1f} s", style="cyan")
            table.add_row(mark, Text(stage.title), duration, Text(stage.note, style="dim"))
        return Group(table)
