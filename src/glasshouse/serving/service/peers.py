"""What the workers of a service tell each other, over Unix sockets in a folder of their own."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glasshouse.storage import write_text

Message = dict[str, Any]
Answer = Callable[[Message], Awaitable[Message]]

# Loading a large model takes long.
_SECONDS = 300.0
_LONGEST_LINE = 64 << 20


@dataclass(frozen=True)
class Peers:
    """One worker of several: its number, from 0, and their count.

    folder: only this user may read it. It has the workers' sockets and the weights they share.
    """

    folder: Path
    number: int
    count: int

    @property
    def weights(self) -> Path:
        """The folder of the weights that the workers share."""
        return self.folder / "weights"

    def is_ready(self, models: str) -> None:
        """Tell the process that started this worker that it can be asked, and what it serves."""
        write_text(self.ready_file(self.number), models)

    def ready_file(self, number: int) -> Path:
        """What a worker writes once it can be asked."""
        return self.folder / f"{number}.ready"

    async def listen(self, answer: Answer) -> asyncio.AbstractServer:
        """Answer what the others ask, until the server that is returned is closed."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, ValueError):
                found = await answer(json.loads(await reader.readline()))
                writer.write(json.dumps(found).encode() + b"\n")
                await writer.drain()
            writer.close()

        path = self._socket(self.number)
        path.unlink(missing_ok=True)
        return await asyncio.start_unix_server(handle, path)

    async def ask(self, message: Message) -> list[Message]:
        """What the other workers answer; one that is being started again answers nothing."""
        others = [number for number in range(self.count) if number != self.number]
        found = await asyncio.gather(*(self._ask_one(number, message) for number in others))
        return [each for each in found if each is not None]

    async def _ask_one(self, number: int, message: Message) -> Message | None:
        try:
            async with asyncio.timeout(_SECONDS):
                reader, writer = await asyncio.open_unix_connection(
                    self._socket(number), limit=_LONGEST_LINE
                )
                try:
                    writer.write(json.dumps(message).encode() + b"\n")
                    found: Message = json.loads(await reader.readline())
                    return {**found, "worker": number}
                finally:
                    writer.close()
        except (OSError, ValueError, TimeoutError):
            return None

    def _socket(self, number: int) -> Path:
        return self.folder / f"{number}.sock"


def first_error(answers: Sequence[Message]) -> str | None:
    """Why a worker could not do what it was asked, if one could not."""
    return next((str(each["error"]) for each in answers if "error" in each), None)
