"""The pointing game on the generated shapes for a small vision transformer, next to the CNN's.

A ViT of 2 blocks (8x8 tokens of width 64 and a class token) behind four convolutions is trained
from scratch, and every method that suits it is scored as `explain_shapes.py` scores those of the
CNN. Nothing is claimed: the figures are reported as measured. The linear layers start as Glorot and
Bengio (2010) proposed: with timm's smaller values, the loss had not moved after 3 epochs.

    python bench/explain_vit.py --weights vit.pt
"""

import argparse
import math
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from contest import machine
from explain_shapes import SIDE, score
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from glasshouse.data.images import ImageSet
from glasshouse.data.sources import load_splits
from glasshouse.models.classifier import Classifier
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.settings import DataSettings

BATCH, PEAK_RATE = 32, 2e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="trained before; written if it is missing")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(machine())
    splits = load_splits("shapes", DataSettings(image_size=SIDE))
    net = small_vit(len(splits.train.class_names), arguments.seed)
    if arguments.weights and arguments.weights.is_file():
        net.load_state_dict(torch.load(arguments.weights, weights_only=True))
    else:
        train(net, splits.train, arguments.epochs, arguments.seed)
        if arguments.weights:
            torch.save(net.state_dict(), arguments.weights)
    preprocessing = Preprocessing(SIDE, SIDE, mean=(0.5,) * 3, std=(0.25,) * 3)
    classifier = Classifier(net.eval(), preprocessing, splits.train.class_names)
    right = classifier.predict(splits.test.pixels).logits.argmax(1) == splits.test.labels
    print(f"test accuracy {right.mean():.1%} of {len(right)} images")
    score(classifier, arguments.images)


def small_vit(classes: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    plan = ((3, 24, 2), (24, 48, 2), (48, 64, 2), (64, 64, 1))
    stem = [layer for sizes in plan for layer in _convolution(*sizes)]
    tokens = VisionTransformer(
        img_size=SIDE // 8,
        patch_size=1,
        in_chans=64,
        embed_dim=64,
        depth=2,
        num_heads=2,
        num_classes=classes,
    )
    for module in tokens.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    return nn.Sequential(*stem, tokens)


def _convolution(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.GELU()]


def train(net: nn.Module, images: ImageSet, epochs: int, seed: int) -> None:
    """AdamW with warm-up and a cosine schedule; images are mirrored at random."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=0.05)
    draw = np.random.default_rng(seed)
    steps = math.ceil(len(images) / BATCH)
    total = epochs * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / steps, (1 + math.cos(math.pi * step / total)) / 2),
    )
    net.train()
    for epoch in range(epochs):
        started, losses = time.perf_counter(), []
        order = draw.permutation(len(images))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            pixels = torch.from_numpy(images.pixels[chosen]).float() / 255
            flips = torch.from_numpy(draw.random(len(chosen)) < 0.5)[:, None, None, None]
            inputs = (torch.where(flips, pixels.flip(-1), pixels) - 0.5) / 0.25
            loss = functional.cross_entropy(net(inputs), torch.from_numpy(images.labels[chosen]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        seconds = time.perf_counter() - started
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
