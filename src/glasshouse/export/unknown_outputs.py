"""What an exported file needs to tell that an image is unlike the training images."""

import json

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from glasshouse.errors import DataError
from glasshouse.models.appearance import appearance
from glasshouse.models.backbone import backbone_of
from glasshouse.models.unusual_scores import NEIGHBOUR, RARE, UnknownMeasure

UNUSUAL, P_VALUE = "unusual", "p_value"


def unknown_facts(measure: UnknownMeasure) -> dict[str, str]:
    """What the file's metadata say about its outputs unusual and p_value."""
    facts = {
        "score": measure.score,
        "joined_with": "appearance",
        "unknown_below": RARE,
        "validation_images": len(measure.usual),
    }
    return {"unknown": json.dumps(facts)}


class UnknownOutputs(nn.Module):
    """The score and the p-value of each image, for the inputs and logits of a network.

    The score is that of the network joined with that of appearance.

    Raises DataError without validation images, ModelError for a network with several heads.
    """

    def __init__(self, measure: UnknownMeasure, net: nn.Module, *, several: bool) -> None:
        super().__init__()
        if not len(measure.usual):
            raise DataError(
                "no validation images were held out, so nothing says what is unusual: export "
                "without --unknown, or train with data.train_on_validation=false"
            )
        self._score = measure.score
        self._several = several
        self._units = measure.units
        self.register_buffer("looks_mean", torch.tensor(measure.looks.means).double())
        self.register_buffer("looks_precision", torch.tensor(measure.looks.precision).double())
        self.register_buffer("usual", torch.tensor(measure.usual))
        if measure.score in ("nearest", "mahalanobis"):
            self.body: nn.Module = _sharing(backbone_of(net), net)
        if measure.score == "nearest":
            # In half precision in the file, too.
            self.register_buffer("known", torch.tensor(measure.features))
        if measure.score == "mahalanobis":
            self.register_buffer("means", torch.tensor(measure.gaussians.means).double())
            self.register_buffer("precision", torch.tensor(measure.gaussians.precision).double())

    def forward(self, images: Tensor, inputs: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Images, inputs ``(n, 3, h, w)`` and logits ``(n, k)`` to scores and p-values ``(n,)``."""
        found = (self._measured(inputs, logits.double()), self._look(images))
        # onnxruntime has no softplus in float64.
        parts = [
            softplus((2 * (each.double() - unit.mean) / unit.deviation).float())
            for each, unit in zip(found, self._units, strict=True)
        ]
        score = parts[0] + parts[1]
        as_unusual = (self.get_buffer("usual")[None] >= score[:, None]).sum(1)
        return score, (as_unusual + 1).float() / (len(self.get_buffer("usual")) + 1)

    def _look(self, images: Tensor) -> Tensor:
        apart = appearance(images).double() - self.get_buffer("looks_mean")
        spread = ((apart @ self.get_buffer("looks_precision")) * apart).sum(1)
        return (spread / 2).log1p()

    def _measured(self, inputs: Tensor, logits: Tensor) -> Tensor:
        if self._score == "energy":
            # onnxruntime has no softplus in float64.
            return -(softplus(logits.float()).sum(1) if self._several else logits.logsumexp(1))
        if self._score == "softmax":
            return 1 - (logits.sigmoid() if self._several else logits.softmax(1)).amax(1)
        found = self.body(inputs).flatten(1).float()
        lengths = found.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        unit = found / lengths
        if self._score == "nearest":
            known = self.get_buffer("known").float()
            apart = (unit * unit).sum(1, keepdim=True) + (known * known).sum(1)
            apart = apart - 2 * (unit @ known.T)
            nearest: Tensor = apart.topk(min(NEIGHBOUR, len(known)), dim=1, largest=False).values
            return nearest[:, -1].clamp_min(0).sqrt()
        wide, means = unit.double(), self.get_buffer("means")
        weighed = wide @ self.get_buffer("precision")
        # (x - m) P (x - m), multiplied out: no tensor of images by classes by features.
        apart = (weighed * wide).sum(1, keepdim=True) - 2 * weighed @ means.T
        own = (means @ self.get_buffer("precision") * means).sum(1)
        spread: Tensor = (apart + own).amin(1)
        return spread / 2


def _sharing(body: nn.Module, net: nn.Module) -> nn.Module:
    """A network without its head, with the very tensors of the whole: a file has them once."""
    own = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    for name in [*dict(body.named_parameters()), *dict(body.named_buffers())]:
        place, _, leaf = name.rpartition(".")
        setattr(body.get_submodule(place), leaf, own[name])
    return body
