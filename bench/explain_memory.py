"""Memory over a thousand explanations, and what they leave behind.

Claims: the resident size grows by less than 5 MB between the hundredth and the thousandth page of
five maps (ResNet18 at 32, batch 1); no hook is left on the net, and no tensor or graph alive.

    python bench/explain_memory.py --count 1000
"""

import argparse
import gc
import warnings
from pathlib import Path

import numpy as np
import torch
from contest import judge, machine

from glasshouse.explanation.explain import explain_page
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.pretrained import build_net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    count = parser.parse_args().count
    warnings.simplefilter("ignore")
    net = build_net("torchvision/resnet18", 10, {}).eval()
    classifier = Classifier(net, Preprocessing(32, 32), tuple(map(str, range(10))))
    images = np.zeros((1, 3, 32, 32), dtype=np.uint8)
    seen = []
    for turn in range(1, count + 1):
        explain_page(classifier, images)
        if turn in (count // 10, count):
            seen.append((resident_mb(), alive()))
    (before, tensors), (after, left) = seen
    hooks = sum(
        len(table)
        for module in net.modules()
        for table in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
    )
    print(f"{machine()}: {before:.1f} MB after {count // 10}, {after:.1f} MB after {count} pages")
    held = [
        judge("growth in MB", after - before, 5, at_least=False),
        judge("hooks left on the net", hooks, 0, at_least=False),
        judge("tensors and graph nodes left over", left - tensors, 0, at_least=False),
    ]
    raise SystemExit(not all(held))


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def alive() -> int:
    """Tensors and nodes of graphs, whose hooks live and die with them."""
    gc.collect()
    kinds = (torch.Tensor, torch.autograd.graph.Node)
    return sum(isinstance(each, kinds) for each in gc.get_objects())


if __name__ == "__main__":
    main()
