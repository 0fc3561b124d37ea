"""Live refresh of a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rich.console import Console, RenderableType
from rich.live import Live


@asynccontextmanager
async def redrawing(
    console: Console,
    render: Callable[[], RenderableType],
    *,
    every_s: float = 0.2,
    full_screen: bool = False,
) -> AsyncIterator[None]:
    """Show the result of `render` every `every_s` seconds while the block runs.

    Shows nothing if the console is not a terminal. `full_screen` uses the whole terminal and
    restores its content at the end.
    """
    if not console.is_terminal:
        yield
        return
    with Live(render(), console=console, auto_refresh=False, screen=full_screen) as live:

        async def redraw() -> None:
            while True:
                await asyncio.sleep(every_s)
                live.update(render(), refresh=True)

        task = asyncio.create_task(redraw())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            live.update(render(), refresh=True)
