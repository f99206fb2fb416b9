"""Grad-CAM on ResNet50 against pytorch-grad-cam, and the pointing game on generated shapes.

pytorch-grad-cam is used as its README shows and, besides, with frozen parameters. Same weights,
pictures, threads and process; medians of interleaved repetitions. With --shapes RUN the maps of a
trained run are scored against the masks of the `shapes` source, for every method.

    python bench/explain_cam.py --batch 1 8 --repeat 5
    python bench/explain_cam.py --batch --shapes runs/shapes --pictures 500
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from glasshouse.data.shapes import make_shapes
from glasshouse.explanation.checking import sheet_methods
from glasshouse.explanation.explain import explain
from glasshouse.explanation.localisation import pointing_game, score_localisation
from glasshouse.explanation.pictures import as_inputs
from glasshouse.explanation.record import shown
from glasshouse.models.classifier import Classifier, Preprocessing, load_classifier
from glasshouse.models.pretrained import build_net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shapes", type=Path, help="a run that was trained on shapes")
    parser.add_argument("--pictures", type=int, default=500)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    if arguments.batch:
        net = build_net("torchvision/resnet50", None, {}).eval()
        classifier = Classifier(net, Preprocessing(224, 224), tuple(map(str, range(1000))))
        for batch in arguments.batch:
            compare(classifier, batch, arguments.repeat)
    if arguments.shapes:
        score(load_classifier(arguments.shapes), arguments.pictures)


def compare(classifier: Classifier, batch: int, repeat: int) -> None:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (batch, 3, 224, 224), dtype=np.uint8)
    inputs = as_inputs(classifier, pictures)
    chosen = np.arange(batch, dtype=np.int64)
    net = classifier.net
    layers = [net.get_submodule("layer4")]
    targets = [ClassifierOutputTarget(int(k)) for k in chosen]

    def theirs() -> None:
        with GradCAM(model=net, target_layers=layers) as cam:
            cam(input_tensor=inputs, targets=targets)

    def ours() -> None:
        explain(classifier, pictures, methods=["grad-cam"], target_class=chosen, layer="layer4")

    def forward() -> None:
        with torch.inference_mode():
            net(inputs)

    times = interleaved({"ours": ours, "theirs": theirs, "forward": forward}, repeat)
    net.requires_grad_(False)
    frozen = interleaved(
        {"theirs, frozen": theirs_with_input(net, inputs, layers, targets)}, repeat
    )
    net.requires_grad_(True)
    times |= frozen
    print(
        f"Grad-CAM, ResNet50 at 224, batch {batch}: "
        + ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in times.items())
        + f"; {times['theirs'] / times['ours']:.2f}x (wanted 3)"
    )


def theirs_with_input(
    net: torch.nn.Module,
    inputs: torch.Tensor,
    layers: list[torch.nn.Module],
    targets: list[Callable[[torch.Tensor], torch.Tensor]],
) -> Callable[[], None]:
    from pytorch_grad_cam import GradCAM

    def run() -> None:
        with GradCAM(model=net, target_layers=layers) as cam:
            cam(input_tensor=inputs.clone().requires_grad_(), targets=targets)

    return run


def interleaved(what: dict[str, Callable[[], None]], repeat: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in what}
    for turn in range(repeat + 1):
        for name, run in what.items():
            start = time.perf_counter()
            run()
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def score(classifier: Classifier, count: int) -> None:
    images = make_shapes("validation", count, size=classifier.preprocessing.height)
    assert images.masks is not None
    methods = sheet_methods(classifier, images.pictures[0])
    found = explain(classifier, images.pictures, methods=methods, target_class=images.labels)
    accuracy = float((found[0].logits.argmax(1) == images.labels).mean())
    print(f"shapes: {count} validation pictures, accuracy {accuracy:.1%}")
    print(f"masks cover {images.masks.mean():.1%} of the pictures")
    # The usual tolerance of the pointing game is 15 pixels at 224.
    near = round(15 / 224 * classifier.preprocessing.height)
    exact = score_localisation(found, images.masks)
    tolerant = score_localisation(found, images.masks, tolerance=near)
    for row, other in zip(exact, tolerant, strict=True):
        print(
            f"{row.method:18} pointing {row.pointing:6.1%}, within {near} pixels "
            f"{other.pointing:6.1%}; energy inside {row.energy:6.1%}"
        )
    hollow = np.isin(np.array(images.class_names)[images.labels], ["ring", "crescent"])
    for explanation in found:
        hits = pointing_game(shown(explanation)[~hollow], images.masks[~hollow])
        print(f"{explanation.method:18} pointing without ring and crescent {hits.mean():6.1%}")


if __name__ == "__main__":
    main()
