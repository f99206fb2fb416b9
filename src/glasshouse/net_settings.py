"""The settings of layers, which are the keys of model.layers in a recipe.

Names follow Keras where Keras has one.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from glasshouse.errors import RecipeError, UsageError
from glasshouse.setting_errors import explain_problems, nearest_key

Activation = Literal[
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish",
    "hard_swish", "softplus", "sigmoid", "tanh", "softmax",
]  # fmt: skip
Size = Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """The base of all settings: frozen, and strict about unknown keys."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _no_booleans_for_numbers(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {
            name: _marked(value) if _takes_numbers_only(cls, name) else value
            for name, value in values.items()
        }

    # Hidden from type checkers, which know the fields.
    if not TYPE_CHECKING:

        def __init__(self, *unnamed: Any, **values: Any) -> None:
            if unnamed:
                names = ", ".join(type(self).model_fields)
                raise RecipeError(
                    f"{type(self).__name__}: expected name=value, received {unnamed[0]!r} without "
                    f"a name. Known: {names}."
                )
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise RecipeError(_message(type(self), error, values)) from error

        # As BaseModel marks its own: pydantic validates nested settings itself, so that one error
        # names all wrong keys by their full path.
        __init__.__pydantic_base_init__ = True

        def __setattr__(self, name: str, value: Any) -> None:
            raise UsageError(
                f"settings do not change: make a copy with model_copy(update={{{name!r}: ...}})"
            )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values, which are not validated; RecipeError for unknown keys."""
        for name in update or {}:
            if name not in type(self).model_fields:
                hint = nearest_key((), name, type(self))
                raise RecipeError(f"{type(self).__name__}: unknown key '{name}'. {hint}")
        return super().model_copy(update=update, deep=deep)


class _Boolean:
    """A boolean where a number is expected.

    Python's True is the number 1 as well, so that a learning rate of true would be one of 1.0.
    """

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return str(self.value)


def _marked(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_marked(each) for each in value]
    # NumPy's boolean is no bool, and NumPy is not imported for it.
    return _Boolean(value) if type(value).__name__ in ("bool", "bool_") else value


def _takes_numbers_only(kind: type[BaseModel], name: str) -> bool:
    field = kind.model_fields.get(name)
    kinds = {*_kinds(field.annotation)} if field else set()
    return bool(kinds & {int, float}) and bool not in kinds


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types in an annotation, looking through unions, tuples and limits."""
    yield annotation
    for argument in get_args(annotation):
        yield from _kinds(argument)


def _message(kind: type[BaseModel], error: ValidationError, values: Mapping[str, Any]) -> str:
    lines = explain_problems(error, values, kind)
    if len(lines) == 1:
        return f"{kind.__name__}: {lines[0]}"
    return f"{kind.__name__} is not valid:\n  " + "\n  ".join(lines)


class Conv(Settings):
    """A two-dimensional convolution with an activation."""

    type: Literal["conv"] = "conv"
    filters: Annotated[int, Field(ge=1)]
    kernel_size: Size = 3
    strides: Size = 1
    padding: Literal["same", "valid"] = "valid"
    activation: Activation = "linear"
    use_bias: bool = True
    groups: Annotated[int, Field(ge=1)] = 1


class Pool(Settings):
    """The maximum or mean of each window."""

    type: Literal["max_pool", "average_pool"]
    pool_size: Size = 2
    strides: Size | None = Field(default=None, description="unset: pool_size")
    padding: Literal["same", "valid"] = "valid"


class GlobalPool(Settings):
    """The maximum or mean of each channel; the output is flat."""

    type: Literal["global_max_pool", "global_average_pool"]


class BatchNorm(Settings):
    """Batch normalisation; momentum as in Keras (0.99 keeps 99 % of the old statistics)."""

    type: Literal["batch_norm"] = "batch_norm"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    epsilon: Annotated[float, Field(gt=0)] = 1e-3
    scale: bool = Field(default=True, description="false: train only the shift of each channel")


class Whitening(Settings):
    """A fixed convolution whose outputs are uncorrelated over patches of the training images.

    Each principal component of the patches gives two filters of opposite sign, so that a following
    relu loses no information (Page 2019, Jordan 2024). Must be the first layer.
    """

    type: Literal["whitening"] = "whitening"
    kernel_size: Annotated[int, Field(ge=2, le=5)] = 2


class Rescaling(Settings):
    """Multiplication by a constant."""

    type: Literal["rescaling"] = "rescaling"
    scale: Annotated[float, Field(gt=0)]


class ActivationLayer(Settings):
    """A separate activation, for example after a batch_norm."""

    type: Literal["activation"] = "activation"
    activation: Activation


class Dropout(Settings):
    """Sets a random share of the values to zero during training."""

    type: Literal["dropout"] = "dropout"
    rate: Fraction


class Flatten(Settings):
    """Flattens rows, columns and channels into one vector."""

    type: Literal["flatten"] = "flatten"


class Dense(Settings):
    """A fully connected layer; ``units = "classes"`` stands for the number of classes."""

    type: Literal["dense"] = "dense"
    units: Annotated[int, Field(ge=1)] | Literal["classes"]
    activation: Activation = "linear"
    use_bias: bool = True


class Residual(Settings):
    """Adds its input to the output of its layers, through a 1x1 convolution if shapes differ."""

    type: Literal["residual"] = "residual"
    layers: tuple["Layer", ...]
    activation: Activation = Field(default="linear", description="applied to the sum")


class TorchLayer(Settings):
    """A layer of torch.nn, given by its class and constructor arguments."""

    type: Literal["torch"] = "torch"
    name: str = Field(description="the class in torch.nn, for example Conv2d")
    arguments: dict[str, Any] = {}
    label: Annotated[str, Field(pattern=r"^[^.]+$")] | None = Field(
        default=None, description="its name in the network; unset: the class and a number"
    )
    layers: tuple["TorchLayer", ...] = Field(default=(), description="the layers of a Sequential")


Layer = Annotated[
    Conv | Pool | GlobalPool | BatchNorm | Whitening | Rescaling | ActivationLayer | Dropout
    | Flatten | Dense | Residual | TorchLayer,
    Field(discriminator="type"),
]  # fmt: skip
