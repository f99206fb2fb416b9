"""The panel of the page Teach that tries a run: on a photo, or live on the webcam."""

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from nicegui import ui
from nicegui.events import GenericEventArguments, UploadEventArguments

from glasshouse.errors import GlasshouseError
from glasshouse.serving.deferred import deferred
from glasshouse.serving.pages.parts import box, button, in_thread, link, panel, text
from glasshouse.serving.pages.resembles import show_resemblance
from glasshouse.serving.photos import photo_store_of, read_photo
from glasshouse.serving.taught_sets import MOST_FILE_BYTES
from glasshouse.serving.workbench import Workbench
from glasshouse.wording import percentage

_PREFIX = "data:image/jpeg;base64,"
_MOST_FRAME = 400_000
_shares_of_frame: Callable[..., dict[str, float]] = deferred(
    "glasshouse.serving.photo_classes", "shares_of_frame"
)
_photo_result: Callable[..., Any] = deferred("glasshouse.serving.photo_classes", "photo_result")


class TrialPanel:
    """on_frame: called with a class and a frame that was recorded for it."""

    def __init__(self, workbench: Workbench) -> None:
        self.on_frame: Callable[[str, list[tuple[str, bytes]]], Awaitable[None]] | None = None
        self._workbench, self._run = workbench, ""
        self._bars: dict[str, tuple[Any, Any]] = {}
        with panel("Try", "a new photo, or the webcam", "gh-trial"):
            self._nothing = text("Train first: then drop a photo here, or use the webcam.", "p")
            self._nothing.classes("gh-quiet")
            with box() as self._body:
                drop = ui.upload(
                    label="Drop a photo, or choose with +",
                    auto_upload=True,
                    max_file_size=MOST_FILE_BYTES,
                    on_upload=self._take,
                    on_rejected=lambda: self._refuse(
                        f"The file is too large: at most {MOST_FILE_BYTES >> 20} MB."
                    ),
                )
                drop.classes("gh-drop gh-try-drop").props('flat bordered accept="image/*"')
            self._body.set_visibility(False)
            with box("gh-row"):
                self._camera = button("Turn the webcam on", "videocam")
                self._camera.on("click", js_handler="() => webcam.start()")
                self._off = button("Turn the webcam off", "videocam_off")
                self._off.on("click", js_handler="() => webcam.stop()")
                self._off.set_visibility(False)
            self._problem = text("", "p", "gh-bad gh-problem").props("role=alert")
            with box("gh-watch"):
                self._video = ui.element("video").classes("gh-webcam")
                self._video.props('muted playsinline aria-label="Webcam"')
                self._video.set_visibility(False)
                self._seen = box("gh-tried")
                self._result = box("gh-five gh-shares", "ol")
                self._result.props('aria-label="Probabilities"')
            self._near = box().props("aria-live=polite")
            self._more = box("gh-row gh-choices")

    def listen(self) -> None:
        """Receive what the webcam's script sends; the page must be connected."""
        ui.on("webcam-state", self._on_state)
        ui.on("webcam-frame", self._on_frame)

    def use(self, run: str) -> None:
        """Try this run from now on."""
        self._run, self._bars = run, {}
        self._nothing.set_visibility(False)
        self._body.set_visibility(True)
        self._clear()
        self._body.props["data-trying"] = run
        self._body.update()
        if self._video.visible:
            ui.run_javascript('webcam.want("try")')

    def _clear(self) -> None:
        self._bars = {}
        for place in (self._seen, self._result, self._near, self._more):
            place.clear()
        self._problem.text = ""

    def _refuse(self, words: str) -> None:
        self._clear()
        self._problem.text = words

    async def _take(self, event: UploadEventArguments) -> None:
        event.sender.reset()  # type: ignore[attr-defined]
        name, data = event.file.name, await event.file.read()
        self._clear()
        with self._seen, box("gh-row gh-step"):
            ui.spinner(size="18px").props("aria-hidden=true")
            text("Looking at the photo …")
        try:
            photo = await in_thread(read_photo, data, name)
            found = await in_thread(_photo_result, self._workbench, self._run, photo)
        except GlasshouseError as error:
            self._refuse(str(error))
            return
        self._clear()
        self._problem.text = photo.warning
        self._show_shares(found.shares)
        key = photo_store_of(self._workbench).keep(name, data)
        with self._seen:
            self._show_photo(name, found)
        with self._more:
            query = urlencode({"model": self._run, "photo": key})
            link("Explain this photo in full", f"/explain?{query}", "gh-pill")
        with self._near:
            near = box("gh-resembles")  # the next photo has another
        await show_resemblance(self._workbench, found.answer, near)

    def _show_photo(self, name: str, found: Any) -> None:
        folder = f"./explain/answers/{found.key}"  # relative, whatever the prefix of the page
        with box("gh-pair-of-images"):
            for over, words in ((False, name), (True, f"{found.method}: what speaks for it")):
                with box("", "figure"):
                    with box("gh-stage"):
                        photo = ui.element("img")
                        seen = "grey" if over else "photo"
                        photo.props.update({"src": f"{folder}/{seen}", "alt": words})
                        if over:
                            layer = ui.element("img").classes("gh-over")
                            layer.props.update({"src": f"{folder}/map/{found.place}", "alt": ""})
                    text(words, "figcaption", "gh-quiet")

    def _show_shares(self, shares: dict[str, float]) -> None:
        """Draw the bars, or move those that are there: they follow the webcam."""
        if set(self._bars) != set(shares):
            self._result.clear()
            with self._result:
                self._bars = {name: _bar(name) for name in shares}
        best = max(shares, key=lambda name: shares[name])
        for name, share in shares.items():
            number, bar = self._bars[name]
            number.text = percentage(share, 0)
            bar.style(f"width:{100 * share:.1f}%")
            row = number.parent_slot.parent
            row.classes(add="gh-explained") if name == best else row.classes(remove="gh-explained")

    def _on_state(self, event: GenericEventArguments) -> None:
        is_on, problem = bool(event.args.get("on")), str(event.args.get("problem", ""))
        self._clear()
        self._problem.text = problem
        self._video.set_visibility(is_on)
        self._camera.set_visibility(not is_on)
        self._off.set_visibility(is_on)
        if is_on and self._run:
            ui.run_javascript('webcam.want("try")')

    async def _on_frame(self, event: GenericEventArguments) -> None:
        purpose = str(event.args.get("purpose", ""))
        try:
            data = _jpeg(str(event.args.get("frame", "")))
            if purpose.startswith("class:") and self.on_frame is not None:
                await self.on_frame(purpose.removeprefix("class:"), [("webcam.jpg", data)])
            elif self._run:
                shares = await in_thread(_shares_of_frame, self._workbench, self._run, data)
                if self._video.visible:
                    self._show_shares(shares)
        except GlasshouseError as error:
            self._problem.text = str(error)
        self._result.client.run_javascript("webcam.next()")


def _jpeg(address: str) -> bytes:
    """The file in a data address; empty, which no decoder accepts, for anything else."""
    if not address.startswith(_PREFIX) or len(address) > _MOST_FRAME:
        return b""
    try:
        return base64.b64decode(address.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        return b""


def _bar(name: str) -> tuple[Any, Any]:
    with box("", "li"):
        text(name)
        number = text("", "span", "gh-number")
        with box("gh-bar").props("aria-hidden=true"):
            bar = box("gh-filled", "i")
    return number, bar
