"""The tutorial's page on ResNet50: eight layers' activations, three saliencies, two CAMs.

Compares `glasshouse.explanation` with Captum used as its documentation shows (an object a method)
and with the bare cost of one forward and three input-gradient backward passes. Same weights (random
ones: the cost does not depend on them), pictures, threads and process; medians of interleaved
repetitions. Also: memory over a thousand explanations, and Eigen-CAM's component against an SVD.

    python bench/explain_page.py --batch 1 8 --repeat 5 --side 224 --memory 1000
"""

import argparse
import resource
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from captum import attr
from torch import Tensor, nn

from glasshouse.explanation.cam import first_component
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.methods import ExplainSettings
from glasshouse.explanation.pictures import as_inputs
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.pretrained import build_net

LAYERS = ("relu", "maxpool", "layer1.0", "layer1", "layer2", "layer3", "layer4.0", "layer4")
CAM_LAYER = "layer4"


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    net = build_net("torchvision/resnet50", None, {}).eval()
    side = arguments.side
    classifier = Classifier(net, Preprocessing(side, side), tuple(map(str, range(1000))))
    print(f"ResNet50 at {side}, {arguments.threads} threads, median of {arguments.repeat}")
    for batch in arguments.batch:
        compare_pages(classifier, batch, arguments.repeat)
    compare_components(arguments.repeat)
    if arguments.memory:
        watch_memory(arguments.memory)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", type=int, default=0, help="explanations to watch")
    return parser.parse_args()


def compare_pages(classifier: Classifier, batch: int, repeat: int) -> None:
    side = classifier.preprocessing.height
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (batch, 3, side, side), dtype=np.uint8)
    targets = np.arange(batch, dtype=np.int64)
    inputs = as_inputs(classifier, pictures)
    settings = ExplainSettings(activation_layers=LAYERS)
    net, wanted = classifier.net, torch.from_numpy(targets)
    times = interleaved(
        {
            "glasshouse": lambda: explain_page(
                classifier, pictures, target_class=targets, layer=CAM_LAYER, settings=settings
            ),
            "captum": lambda: captum_page(net, inputs, wanted),
            "bare": lambda: bare(net, inputs, wanted),
            "forward": lambda: forward(net, inputs),
        },
        repeat,
    )
    ours = times["glasshouse"]
    print(
        f"batch {batch}: "
        + ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in times.items())
        + f"; {times['captum'] / ours:.2f}x faster than captum (wanted 2.8), "
        f"{ours / times['bare']:.2f}x of forward + 3 backwards (wanted at most 1.15)"
    )


def captum_page(net: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    for name in LAYERS:
        attr.LayerActivation(net, net.get_submodule(name)).attribute(inputs)
    attr.Saliency(net).attribute(inputs.clone().requires_grad_(), targets)
    attr.GuidedBackprop(net).attribute(inputs.clone().requires_grad_(), targets)
    attr.Deconvolution(net).attribute(inputs.clone().requires_grad_(), targets)
    layer = net.get_submodule(CAM_LAYER)
    attr.LayerGradCam(net, layer).attribute(inputs, targets)
    attr.GuidedGradCam(net, layer).attribute(
        inputs.clone().requires_grad_(), targets, interpolate_mode="bilinear"
    )


def bare(net: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    leaf = inputs.clone().requires_grad_()
    score = net(leaf).gather(1, targets[:, None]).sum()
    for _ in range(3):
        torch.autograd.grad(score, leaf, retain_graph=True)


def forward(net: nn.Module, inputs: Tensor) -> None:
    with torch.inference_mode():
        net(inputs)


def interleaved(what: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Median seconds of each; taking turns, so that a busy machine is unfair to all alike."""
    times: dict[str, list[float]] = {name: [] for name in what}
    for turn in range(repeat + 1):
        for name, run in what.items():
            start = time.perf_counter()
            run()
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def compare_components(repeat: int) -> None:
    rows = torch.rand(1, 49, 2048)
    rows -= rows.mean(1, keepdim=True)
    times = interleaved(
        {
            "gram": lambda: first_component(rows),
            "svd": lambda: torch.linalg.svd(rows, full_matrices=True),
        },
        max(repeat, 5),
    )
    ratio = times["svd"] / times["gram"]
    print(
        f"Eigen-CAM's component at 49x2048: Gram {times['gram'] * 1000:.2f} ms, SVD "
        f"{times['svd'] * 1000:.0f} ms: {ratio:.0f}x (wanted 50)"
    )


def watch_memory(count: int) -> None:
    net = build_net("torchvision/resnet18", 10, {}).eval()
    classifier = Classifier(net, Preprocessing(32, 32), tuple(map(str, range(10))))
    pictures = np.zeros((1, 3, 32, 32), dtype=np.uint8)
    peaks = []
    for turn in range(count):
        explain_page(classifier, pictures)
        if turn in (count // 10, count - 1):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    hooks = sum(len(m._forward_hooks) for m in net.modules())
    growth = peaks[1] - peaks[0]
    print(f"memory over {count} explanations: {growth:+.1f} MB; hooks left: {hooks}")


if __name__ == "__main__":
    main()
