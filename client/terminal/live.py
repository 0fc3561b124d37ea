"""Keeping a terminal up to date."""

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
    whole: bool = False,
) -> AsyncIterator[None]:
    """Show what `render` gives, again and again, until left; nothing where there is no terminal.

    `whole` takes the whole terminal and gives it back as it was.
    """
    if not console.is_terminal:
        yield
        return
    with Live(render(), console=console, auto_refresh=False, screen=whole) as live:

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
