"""Photos done in pieces elsewhere give what they give here; no cluster is started."""

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glasshouse.cli.image_paths import readable_batches
from glasshouse.data.decode import Pixels
from glasshouse.errors import BadImage, GlasshouseWarning, Interrupted
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import logits_of
from glasshouse.storage import cache_folder
from glasshouse.workflow.use.explain_files import ExplainRequest, explain_images, map_request
from glasshouse.workflow.use.photo_pieces import PhotoJob, done_on, own_modules, with_files
from tests.cluster.instead import Instead
from tests.models.foreign_nets import NAMES, SIZE, plain_net


class Nodes(Instead):
    """The number of pieces that exist at the same time is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.code: list[str] = []
        self.begun, self.most = 0, 0

    def send_code(self, module: Any) -> None:
        self.code.append(module.__name__)

    def begin(self, work: Any, *arguments: object) -> Any:
        self.begun += 1
        return super().begin(work, *arguments)

    def ended(self, pieces: Sequence[Any], seconds: float) -> list[Any]:
        self.most = max(self.most, len(pieces))
        return super().ended(pieces, seconds)


def logits(classifier: Classifier, names: list[Path], pixels: Pixels) -> list[Any]:
    return list(zip(names, logits_of(classifier, pixels), strict=True))


@pytest.fixture
def classifier() -> Classifier:
    return Classifier(plain_net(), SIZE, NAMES)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = []
    for number in range(21):
        found.append(tmp_path / f"{number}.png")
        noise = np.random.default_rng(number).integers(0, 256, (20, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(found[-1])
    found[3].write_bytes(found[3].read_bytes()[:200])
    found[8].unlink()
    return found


def test_results_are_those_of_here_in_order_and_bad_files_are_named(
    classifier: Classifier, paths: list[Path]
) -> None:
    cluster: Any = Nodes()
    bad: list[BadImage] = []
    job = PhotoJob(classifier, "cpu", logits)
    found = list(done_on(cluster, job, paths, bad, most=2))
    assert [name for name, _ in found] == [p for n, p in enumerate(paths) if n not in (3, 8)]
    here = [logits_of(classifier, pixels)
            for _, pixels in readable_batches(paths, classifier, [], most=2)]  # fmt: skip
    # To the last digit: of batches of the same images.
    assert np.array_equal(np.stack([row for _, row in found]), np.concatenate(here))
    assert [str(error) for error in bad] == [
        f"{paths[3]}: the PNG is truncated",
        f"{paths[8]}: the file does not exist",
    ]
    # The classifier travels once, and files are read as they are needed.
    assert cluster.sent == [job] and (cluster.begun, cluster.most) == (11, 4)


def test_large_files_make_smaller_pieces_and_few_levels_are_said_once_per_piece(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path in paths:
        Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)).save(path)
    monkeypatch.setattr(
        "glasshouse.workflow.use.image_files._MOST_BYTES", 2 * paths[0].stat().st_size
    )
    cluster: Any = Nodes()
    with pytest.warns(GlasshouseWarning, match="2 files with few grey levels") as caught:
        found = list(done_on(cluster, PhotoJob(classifier, "cpu", logits), paths, [], most=9))
    assert (len(found), cluster.begun, len(caught)) == (4, 2, 2)


def test_a_signal_ends_it(classifier: Classifier, paths: list[Path]) -> None:
    cluster: Any = Nodes()
    job = PhotoJob(classifier, "cpu", logits)
    with pytest.raises(Interrupted, match="repeat the command"):
        list(done_on(cluster, job, paths, [], most=2, signal_received=lambda: 15))
    assert cluster.begun == 4 and len(cluster.stopped) == 3


def test_a_repeated_command_computes_what_was_not_finished(
    classifier: Classifier, paths: list[Path]
) -> None:
    def done(command: str, *, until: int = 99, by: Classifier = classifier) -> tuple[Any, int, int]:
        """What a command gives that is killed after some files, and its pieces: begun and kept."""
        cluster: Any = Nodes()
        bad: list[BadImage] = []
        results: Any = done_on(cluster, PhotoJob(by, "cpu", logits, command), paths, bad, most=2)
        found = [(str(name), *row) for name, row in islice(results, until)]
        results.close()
        kept = len([path for path in cache_folder().glob("results/*/*") if not path.suffix])
        return (found, list(map(str, bad))), cluster.begun, kept

    whole, begun, kept = done("whole")
    assert (begun, kept) == (11, 0)
    _, begun, kept = done("killed", until=8)
    assert 11 > begun >= kept >= 5
    # Another command, and another network, have nothing of it.
    assert done("another") == (whole, 11, kept)
    other = Classifier(plain_net(), SIZE, NAMES)
    with torch.no_grad():
        next(other.net.parameters()).add_(1)
    found, begun, left = done("killed", by=other)
    assert found != whole and (begun, left) == (11, kept)
    # Of the first piece, which had ended, a file has changed.
    paths[0].write_bytes(paths[1].read_bytes())
    (found, bad), begun, left = done("killed")
    assert (begun, left) == (11 - kept + 1, 0)
    assert np.allclose(found[0][1:], whole[0][1][1:])
    assert not np.allclose(found[0][1:], whole[0][0][1:])
    assert (found[1:], bad) == (whole[0][1:], whole[1])


def test_files_that_were_explained_elsewhere_are_those_of_here(
    classifier: Classifier, tmp_path: Path
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (1, 3, 12, 12), dtype=np.uint8)

    def explain(out: Path) -> Any:
        request = ExplainRequest(out, maps=map_request(["saliency"], is_checked=False))
        return explain_images(classifier, image, ["photo.png"], request)

    (here,) = explain(tmp_path / "here")
    (there,) = with_files(explain).put_into(tmp_path / "there")
    assert [path.relative_to(tmp_path / "there") for path in there.files] == [
        path.relative_to(tmp_path / "here") for path in here.files
    ]
    for one, other in zip(here.files, there.files, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_own_code_is_sent_with_the_files_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_part_of_a_net.py").write_text("def act(x):\n    return x.relu()\n")
    (tmp_path / "own_net.py").write_text(
        "import own_part_of_a_net\nfrom torch import nn\nclass Net(nn.ReLU):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import importlib

    net = importlib.import_module("own_net").Net()
    try:
        names = [module.__name__ for module in own_modules(net)]
        assert names == ["own_net", "own_part_of_a_net"]
        assert own_modules(plain_net()) == []
    finally:
        for name in ("own_net", "own_part_of_a_net"):
            sys.modules.pop(name)
