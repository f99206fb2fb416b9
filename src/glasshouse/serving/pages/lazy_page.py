"""Pages whose parts take seconds to import: the workbench is there before them."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module

from fastapi import Request
from nicegui import ui

from glasshouse.serving.pages.parts import box, text
from glasshouse.serving.workbench import Workbench


def later(module: str) -> Callable[[Workbench, Request], Awaitable[None]]:
    """What builds a page by the function ``fill`` of a module, imported when it is first seen."""

    async def build(workbench: Workbench, request: Request) -> None:
        with box("gh-waiting").props("role=status") as waiting:
            ui.spinner(size="28px").props("aria-hidden=true")
            text("Getting ready …")
        # The page is shown now; what follows is sent to it.
        await ui.context.client.connected()
        view = await asyncio.to_thread(import_module, module)
        if waiting.is_deleted:
            return  # the viewer has left meanwhile
        waiting.delete()
        await view.fill(workbench, request)

    return build
