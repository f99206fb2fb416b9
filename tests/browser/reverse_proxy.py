"""A small reverse proxy, as hosted notebooks have one in front of a port."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from aiohttp import ClientSession, WSMsgType, web

_PER_HOP = {"connection", "upgrade", "keep-alive", "transfer-encoding", "content-length", "host"}
_LARGEST = 64 << 20


@dataclass(frozen=True)
class Habits:
    """What a proxy does with requests.

    prefix: of its addresses. keeps: leaves the prefix in the path. host: what it puts into Host,
    and into Origin; "": as the browser sent them. says: X-Forwarded-Prefix. websockets: passed on.
    """

    prefix: str = ""
    keeps: bool = False
    host: str = ""
    says: str = ""
    websockets: bool = True


@contextlib.contextmanager
def reverse_proxy(port: int, target: str, habits: Habits) -> Iterator[str]:
    """A proxy on this port, in a thread; gives the address of the target behind it."""
    started: Future[Callable[[], object]] = Future()
    # asyncio.run ends what is still being answered when a page is left.
    thread = threading.Thread(
        target=lambda: asyncio.run(_serve(port, _Proxy(target, habits), started))
    )
    thread.start()
    stop = started.result(30)
    try:
        yield f"http://127.0.0.1:{port}{habits.prefix}/"
    finally:
        stop()
        thread.join(30)


async def _serve(port: int, proxy: "_Proxy", started: "Future[Callable[[], object]]") -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    app = web.Application(client_max_size=_LARGEST)
    app.router.add_route("*", "/{path:.*}", proxy.answer)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    async with ClientSession(auto_decompress=False) as proxy.session:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        started.set_result(lambda: loop.call_soon_threadsafe(stop.set))
        await stop.wait()
        await runner.cleanup()


class _Proxy:
    session: ClientSession

    def __init__(self, target: str, habits: Habits) -> None:
        self._target, self._habits = target, habits

    async def answer(self, request: web.Request) -> web.StreamResponse:
        habits = self._habits
        path = request.raw_path
        if not path.startswith(f"{habits.prefix}/"):
            return web.Response(status=404, text="outside the prefix")
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _PER_HOP}
        headers["Host"] = habits.host or request.host
        if habits.host and "Origin" in headers:
            headers["Origin"] = f"http://{habits.host}"
        there = self._target + (path if habits.keeps else path[len(habits.prefix) :])
        if request.headers.get("Upgrade", "").lower() == "websocket":
            if not habits.websockets:
                return web.Response(status=400, text="no websockets here")
            return await self._pass_socket(request, there, headers)
        # As JupyterHub does it: on HTTP, not on websockets.
        if habits.says:
            headers["X-Forwarded-Prefix"] = habits.says
        async with self.session.request(
            request.method, there, headers=headers, data=await request.read(), allow_redirects=False
        ) as answer:
            kept = [(k, v) for k, v in answer.headers.items() if k.lower() not in _PER_HOP]
            response = web.Response(status=answer.status, body=await answer.read())
            response.headers.clear()
            response.headers.extend(kept)
            return response

    async def _pass_socket(
        self, request: web.Request, there: str, headers: dict[str, str]
    ) -> web.StreamResponse:
        outer = web.WebSocketResponse(max_msg_size=_LARGEST)
        sent = {k: v for k, v in headers.items() if not k.lower().startswith("sec-websocket")}
        async with self.session.ws_connect(there, headers=sent, max_msg_size=_LARGEST) as inner:
            await outer.prepare(request)

            async def pass_on(source: object, target: object) -> None:
                async for message in source:  # type: ignore[attr-defined]
                    if message.type == WSMsgType.TEXT:
                        await target.send_str(message.data)  # type: ignore[attr-defined]
                    elif message.type == WSMsgType.BINARY:
                        await target.send_bytes(message.data)  # type: ignore[attr-defined]
                await target.close()  # type: ignore[attr-defined]

            await asyncio.gather(pass_on(outer, inner), pass_on(inner, outer))
        return outer
