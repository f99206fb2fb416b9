"""Files of published weights: found in the caches of torch and Hugging Face, or downloaded."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from glasshouse.errors import ModelError
from glasshouse.models.known_names import bundled_names

# The end of a name such as resnet18-f37072fd.pth: the first digits of the file's SHA-256.
_DIGEST = re.compile(r"-([0-9a-f]{8,})\.")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Published:
    """Where the weights of a network are published.

    url: of the file. repository: on the Hugging Face Hub, None for other hosts; hub_file: its name
    there, None for one of the two default names.
    """

    name: str
    url: str
    repository: str | None = None
    hub_file: str | None = None

    @property
    def place(self) -> Path:
        """Where the file can be placed by hand: in torch's download folder."""
        file = self.url.rsplit("/", 1)[1]
        if self.repository is not None:
            file = f"{self.repository.rpartition('/')[2]}{Path(file).suffix}"
        return Path(torch.hub.get_dir()) / "checkpoints" / file


def fetch(published: Published, *, offline: bool) -> Path:
    """The path of the file, which is downloaded into a cache if it is not on this machine.

    Files of the Hub go to its own cache, others to torch's. Raises ModelError that says which file
    is missing and where to put it.
    """
    if published.place.is_file():
        return published.place
    cached = _in_hub_cache(published)
    if cached is not None:
        return cached
    if offline:
        raise ModelError(_missing(published, "are not on this machine"))
    return _download(published) if published.repository is None else _from_hub(published)


def _download(published: Published) -> Path:
    target = published.place
    digest = _DIGEST.search(target.name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            published.url, str(target), digest[1] if digest else None, progress=True
        )
    except (OSError, RuntimeError) as error:
        raise ModelError(_missing(published, f"cannot be downloaded ({error})")) from error
    return target


def _in_hub_cache(published: Published) -> Path | None:
    if published.repository is None:
        return None
    import huggingface_hub

    names = (published.hub_file,) if published.hub_file else _HUB_FILES
    for name in names:
        cached = huggingface_hub.try_to_load_from_cache(published.repository, name)
        if isinstance(cached, str):
            return Path(cached)
    return None


def _from_hub(published: Published) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    assert published.repository is not None
    first, *others = (published.hub_file,) if published.hub_file else _HUB_FILES
    try:
        try:
            return Path(huggingface_hub.hf_hub_download(published.repository, first))
        except EntryNotFoundError:
            if not others:
                raise
            return Path(huggingface_hub.hf_hub_download(published.repository, others[0]))
    # The client of the Hub raises errors of several HTTP libraries, depending on its version.
    except Exception as error:
        reason = f"cannot be downloaded ({str(error).splitlines()[0]})"
        raise ModelError(_missing(published, reason)) from error


def _missing(published: Published, reason: str) -> str:
    ours = " and ".join(bundled_names())
    return (
        f"the weights of {published.name} {reason}. Download {published.url} on another machine "
        f"and save it as {published.place}, or name a weights file (--weights). {ours} come with "
        "Glasshouse."
    )
