"""Grad-CAM and Eigen-CAM's component on ResNet50 against pytorch-grad-cam.

Claims: Grad-CAM >= 3x faster than pytorch-grad-cam used as its README shows, of one image >= 2.5x;
Eigen-CAM's component >= 50x faster at 49x2048 than the SVD with full matrices that it makes. Same
weights, images, threads and process, in turns. Besides: pytorch-grad-cam with frozen parameters.

    python bench/explain_cam.py --batch 1 8 --rounds 5 [--device cuda]
"""

import argparse
import warnings
from collections.abc import Callable

import numpy as np
import torch
from contest import (
    BENCH,
    interleaved,
    judge_rounds,
    machine,
    print_medians,
    ratios,
    require,
    waiting_for,
)

from glasshouse.explanation.explain import explain
from glasshouse.explanation.inputs import as_inputs
from glasshouse.explanation.maps.cam import first_component
from glasshouse.memory import keep_freed_memory
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.devices import choose_device
from glasshouse.models.pretrained import build_net

LAYER = "layer4"
CLAIM, CLAIM_OF_ONE = 3.0, 2.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    require("pytorch_grad_cam", BENCH)
    keep_freed_memory()  # as the command does, for all contenders
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    device = choose_device(arguments.device)
    net = build_net("torchvision/resnet50", None, {}).eval().to(device)
    classifier = Classifier(net, Preprocessing(224, 224), tuple(map(str, range(1000))))
    print(f"{machine(device)}: {arguments.threads} threads, {arguments.rounds} turns")
    held = [compare_maps(classifier, batch, arguments.rounds) for batch in arguments.batch]
    if device.type == "cpu":
        held.append(compare_components(max(arguments.rounds, 5)))
    raise SystemExit(not all(held))


def compare_maps(classifier: Classifier, batch: int, rounds: int) -> bool:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch, 3, 224, 224), dtype=np.uint8)
    inputs = as_inputs(classifier, images)
    chosen = np.arange(batch, dtype=np.int64)
    net = classifier.net

    def ours() -> None:
        explain(classifier, images, methods=["grad-cam"], target_class=chosen, layer=LAYER)

    def forward() -> None:
        with torch.inference_mode():
            net(inputs)

    theirs = peer(net, inputs, chosen.tolist())
    wait = waiting_for(inputs.device)
    times = interleaved(
        {"ours": ours, "pytorch-grad-cam": theirs, "forward": forward}, rounds, wait
    )
    net.requires_grad_(False)
    needing = inputs.clone().requires_grad_()
    frozen = peer(net, needing, chosen.tolist())
    times |= interleaved({"pytorch-grad-cam, frozen": frozen}, rounds, wait)
    net.requires_grad_(True)
    print_medians(times)
    found = ratios(times["pytorch-grad-cam"], times["ours"])
    claimed = CLAIM_OF_ONE if batch == 1 else CLAIM
    return judge_rounds(f"batch {batch}: pytorch-grad-cam / ours", found, claimed)


def peer(net: torch.nn.Module, inputs: torch.Tensor, classes: list[int]) -> Callable[[], None]:
    # Imported behind glasshouse's own net, which makes torchvision importable beside any torch.
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    layers = [net.get_submodule(LAYER)]
    targets = [ClassifierOutputTarget(number) for number in classes]

    def run() -> None:
        with GradCAM(model=net, target_layers=layers) as cam:
            cam(input_tensor=inputs, targets=targets)

    return run


def compare_components(rounds: int) -> bool:
    rows = torch.rand(1, 49, 2048)
    rows -= rows.mean(1, keepdim=True)
    matrix = rows[0].numpy()

    def their_way() -> None:
        _, _, directions = np.linalg.svd(matrix, full_matrices=True)
        matrix @ directions[0]

    times = interleaved({"gram": lambda: first_component(rows), "svd": their_way}, rounds)
    print_medians(times)
    return judge_rounds("Eigen-CAM at 49x2048: SVD / ours", ratios(times["svd"], times["gram"]), 50)


if __name__ == "__main__":
    main()
