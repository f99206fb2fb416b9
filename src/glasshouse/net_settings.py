"""The settings of layers: what a net is made of, as the keys of model.layers in a recipe.

Names are Keras's where Keras has one.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Activation = Literal[
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish",
    "hard_swish", "softplus", "sigmoid", "tanh",
]  # fmt: skip
Size = Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """Frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Conv(Settings):
    """A two-dimensional convolution, with its activation."""

    type: Literal["conv"] = "conv"
    filters: Annotated[int, Field(ge=1)]
    kernel_size: Size = 3
    strides: Size = 1
    padding: Literal["same", "valid"] = "valid"
    activation: Activation = "linear"
    use_bias: bool = True
    groups: Annotated[int, Field(ge=1)] = 1


class Pool(Settings):
    """The largest or the mean value of each window."""

    type: Literal["max_pool", "average_pool"]
    pool_size: Size = 2
    strides: Size | None = Field(default=None, description="unset: as pool_size")
    padding: Literal["same", "valid"] = "valid"


class GlobalPool(Settings):
    """The largest or the mean value of each channel; its output is flat."""

    type: Literal["global_max_pool", "global_average_pool"]


class BatchNorm(Settings):
    """Batch normalisation; momentum in Keras's sense (0.99 keeps 99 % of the old statistics)."""

    type: Literal["batch_norm"] = "batch_norm"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    epsilon: Annotated[float, Field(gt=0)] = 1e-3
    scale: bool = Field(
        default=True, description="false: only the shift of each channel is trained"
    )


class Whitening(Settings):
    """A fixed convolution whose outputs are uncorrelated over the patches of training images.

    Each principal component of the patches gives two filters, one with each sign, so that a relu
    behind it loses nothing (Page 2019, Jordan 2024). Only the first layer can be one.
    """

    type: Literal["whitening"] = "whitening"
    kernel_size: Annotated[int, Field(ge=2, le=5)] = 2


class Rescaling(Settings):
    """Multiplies its input by a constant."""

    type: Literal["rescaling"] = "rescaling"
    scale: Annotated[float, Field(gt=0)]


class ActivationLayer(Settings):
    """An activation that stands alone, for example behind a batch_norm."""

    type: Literal["activation"] = "activation"
    activation: Activation


class Dropout(Settings):
    """Sets this share of the values to zero while training."""

    type: Literal["dropout"] = "dropout"
    rate: Fraction


class Flatten(Settings):
    """Rows, columns and channels become one row of numbers."""

    type: Literal["flatten"] = "flatten"


class Dense(Settings):
    """A fully connected layer; ``units = "classes"`` stands for the number of classes."""

    type: Literal["dense"] = "dense"
    units: Annotated[int, Field(ge=1)] | Literal["classes"]
    activation: Activation = "linear"
    use_bias: bool = True


class Residual(Settings):
    """Adds its input to what its layers give; a 1x1 convolution fits the shapes where needed."""

    type: Literal["residual"] = "residual"
    layers: tuple["Layer", ...]
    activation: Activation = Field(default="linear", description="applied to the sum")


class TorchLayer(Settings):
    """A layer of torch.nn by its class and constructor arguments, as found in a Sequential."""

    type: Literal["torch"] = "torch"
    name: str = Field(description="the class in torch.nn, for example Conv2d")
    arguments: dict[str, Any] = {}
    label: Annotated[str, Field(pattern=r"^[^.]+$")] | None = Field(
        default=None, description="its name inside the net; unset: the class, counted"
    )
    layers: tuple["TorchLayer", ...] = Field(default=(), description="the parts of a Sequential")


Layer = Annotated[
    Conv | Pool | GlobalPool | BatchNorm | Whitening | Rescaling | ActivationLayer | Dropout
    | Flatten | Dense | Residual | TorchLayer,
    Field(discriminator="type"),
]  # fmt: skip
