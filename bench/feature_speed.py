"""Images a second of the inference graph against plain eager float32 inference, and agreement.

Claims: at least 1.6 times plain eager on ResNet50 at 224, batch 32; top-1 agreement of at least
99.5 % on real photos where real weights are at hand (MobileNetV2, SqueezeNet; GLASSHOUSE_DATA).
Both sides run in inference mode; eager as a user would write it, without channels_last.
Run: python bench/feature_speed.py [rounds] [batch]
"""

import json
import os
import statistics
import sys
from pathlib import Path

import numpy as np
import torch
from contest import interleaved, judge, judge_rounds, machine, ratios
from torch import nn

from glasshouse.data.decode import decode
from glasshouse.models.agreement import changed_logits
from glasshouse.models.classifier import scale
from glasshouse.models.freezing import head_of
from glasshouse.models.inference import inference_net
from glasshouse.models.preprocessing import Preprocessing, preprocess
from glasshouse.models.pretrained import build_net
from glasshouse.models.zoo import create
from glasshouse.settings import TrainSettings
from glasshouse.training.precision import choose_precision

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
BATCH = int(sys.argv[2]) if len(sys.argv) > 2 else 32
NETS = ("resnet50", "mobilenetv2_100")
HALF = (0.5, 0.5, 0.5)


def speed(net: nn.Module, name: str) -> list[float]:
    """How many times as fast as eager inference, in each round."""
    images = torch.randn(BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    precision = choose_precision(TrainSettings(device="cpu"), torch.device("cpu"))
    ready = inference_net(net.eval(), images[:8], precision)
    with torch.inference_mode():
        times = interleaved({"eager": lambda: net(images), "graph": lambda: ready(images)}, ROUNDS)
    rates = {way: round(BATCH / statistics.median(seconds), 1) for way, seconds in times.items()}
    found = {"net": name, "precision": str(ready.precision), "folded": ready.folded, **rates}
    print(json.dumps(found), flush=True)
    return ratios(times["eager"], times["graph"])


def agreement(name: str, arguments: dict[str, str], file: Path, photos: list[Path],
              level: tuple[Preprocessing, ...] = ()) -> dict[str, object]:  # fmt: skip
    classifier = create(name, weights=file, arguments=arguments).classifier
    preprocessing = level[0] if level else classifier.preprocessing
    images = np.stack([preprocess(decode(photo), preprocessing) for photo in photos])
    inputs = scale(torch.from_numpy(images), preprocessing)
    precision = choose_precision(TrainSettings(device="cpu"), torch.device("cpu"))
    # As features are used: the body in low precision, the head in float32.
    head = head_of(classifier.net)
    some = inputs[np.linspace(0, len(inputs) - 1, 64).astype(int)]
    ready = inference_net(classifier.net, some, precision, head=head, changed=changed_logits)
    with torch.inference_mode():
        own = torch.cat([classifier.net(part) for part in inputs.split(32)]).argmax(dim=1)
    found = torch.cat([ready(part) for part in inputs.split(32)]).argmax(dim=1)
    return {"net": name, "precision": str(ready.precision),
            "refused": ready.refused and ready.refused.describe(), "photos": len(photos),
            "agree": int((own == found).sum())}  # fmt: skip


def main() -> None:
    print(machine())
    times = {name: speed(build_net(name, None, {}), name) for name in NETS}
    holds = [judge_rounds("ResNet50 at 224, times plain eager float32", times["resnet50"], 1.6)]
    folder = os.environ.get("GLASSHOUSE_DATA")
    holds += [] if folder is None else agreements(Path(folder))
    sys.exit(not all(holds))


def agreements(folder: Path) -> list[bool]:
    """On real photos, with the real weights at hand."""
    weights = folder / "weights" / "imagenet"
    photos = [p for p in sorted((folder / "photos").rglob("*"))
              if p.suffix.lower() in (".jpg", ".jpeg", ".png")]  # fmt: skip
    photos += sorted((folder / "hymenoptera").rglob("*.jpg"))
    mobile = Preprocessing(224, 224, "crop", HALF, HALF, 0.875)
    found = [
        agreement("mobilenetv2_100", {"pad_type": "same"},
                  weights / "mobilenetv2_100_tfsame.fp16.safetensors", photos, (mobile,)),
        agreement("squeezenet1_0", {}, weights / "squeezenet1_0.fp16.safetensors", photos),
    ]  # fmt: skip
    holds = []
    for each in found:
        print(json.dumps(each))
        share = 100 * int(str(each["agree"])) / len(photos)
        holds.append(judge(f"{each['net']}, % of answers as in float32", share, 99.5))
    return holds


if __name__ == "__main__":
    main()
