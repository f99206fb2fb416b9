"""Pages whose module is imported at the first visit, because it needs torch."""

from collections.abc import Awaitable, Callable
from importlib import import_module

from fastapi import Request
from nicegui import ui

from glasshouse.errors import UsageError
from glasshouse.serving.pages.parts import box, connected, in_thread, text
from glasshouse.serving.workbench import Workbench


def lazy_page(module: str) -> Callable[[Workbench, Request], Awaitable[None]]:
    """Build a page with the function ``fill`` of a module that is imported at the first visit."""

    async def build(workbench: Workbench, request: Request) -> None:
        with box("gh-waiting").props("role=status") as waiting:
            ui.spinner(size="28px").props("aria-hidden=true")
            text("Loading …")
        # The spinner is on the screen from here on; what follows is sent to the open page.
        await connected()
        try:
            view = await in_thread(import_module, module)
        except ImportError as error:  # such as after an update of the package beneath it
            raise UsageError(f"Glasshouse has changed: {error}. Restart the workbench.") from error
        finally:
            if not waiting.is_deleted:
                waiting.delete()
        await view.fill(workbench, request)

    return build
