"""Sums have the order of a binary tree."""

import torch

from glasshouse.training.tree_sum import tree_sum


def test_the_sum_is_a_binary_tree() -> None:
    parts = [torch.tensor([1.0, 3e-8]) * 3.0**-n for n in range(8)]
    (a, b, c, d, e, f, g, h) = (part.clone() for part in parts)
    expected = ((a + b) + (c + d)) + ((e + f) + (g + h))
    total = tree_sum(part.clone() for part in parts)
    assert total.numpy().tobytes() == expected.numpy().tobytes()
