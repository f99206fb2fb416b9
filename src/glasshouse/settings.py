"""The one settings model: the fields below are the keys of a recipe.

Flags, docs and the record in a run folder derive from them. Names are Keras's where Keras has one.
Layers have their settings in ``net_settings``, and are all reachable from here.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from glasshouse.errors import UsageError
from glasshouse.net_settings import (
    Activation as Activation,
    ActivationLayer as ActivationLayer,
    BatchNorm as BatchNorm,
    Conv as Conv,
    Dense as Dense,
    Dropout as Dropout,
    Flatten as Flatten,
    Fraction as Fraction,
    GlobalPool as GlobalPool,
    Layer as Layer,
    Pool as Pool,
    Rescaling as Rescaling,
    Residual as Residual,
    Settings as Settings,
    TorchLayer as TorchLayer,
    Whitening as Whitening,
)

# One value for all three channels, or one for each.
Level = float | tuple[float, float, float]


class DataSettings(Settings):
    """How images are read and split."""

    image_size: Annotated[int, Field(ge=4, le=1024)] | None = Field(
        default=None, description="pixels a side; unset: the source's own size, 64 for files"
    )
    resize: Literal["auto", "crop", "letterbox", "stretch"] = Field(
        default="auto",
        description="how an image that is not square is made so; auto: cropped, or letterboxed "
        "where a crop would take too much of the images",
    )
    validation_fraction: Annotated[float, Field(gt=0, lt=0.9)] = Field(
        default=0.1,
        description="held out of train for model selection, where the source has no such split",
    )
    train_on_validation: bool = Field(
        default=False,
        description="train on the validation images too, once nothing is left to choose: figures "
        "on them are then too good, and probabilities stay uncalibrated",
    )
    test_fraction: Annotated[float, Field(gt=0, lt=0.9)] = Field(
        default=0.2, description="held out for the final figure, where the source has no such split"
    )
    split_seed: int = Field(default=0, description="decides which images are held out")
    train_limit: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="train on this many images only, as many of each class as possible",
    )
    on_bad_file: Literal["error", "skip"] = Field(
        default="error", description="what to do when a file cannot be read as an image"
    )
    on_finding: Literal["error", "ignore"] = Field(
        default="error",
        description="whether training stops where `check` says that figures would be wrong",
    )


class AugmentSettings(Settings):
    """Random changes of the training images; each image has its own draw."""

    rotation_range: Annotated[float, Field(ge=0, le=180)] = Field(
        default=0.0, description="turn by up to so many degrees, either way"
    )
    width_shift_range: Fraction = Field(
        default=0.0, description="move sideways by up to this fraction of the width"
    )
    height_shift_range: Fraction = Field(
        default=0.0, description="move up or down by up to this fraction of the height"
    )
    zoom_range: Fraction = Field(default=0.0, description="larger or smaller; 0.1: 90 to 110 %")
    horizontal_flip: bool | Literal["alternating"] = Field(
        default=False,
        description="mirror every other image, at random; alternating: each image is mirrored "
        "in every other epoch, so that two epochs show all views",
    )
    random_crop: Annotated[int, Field(ge=0)] = Field(
        default=0, description="whole pixels of shift in each direction"
    )
    fill_mode: Literal["nearest", "reflect", "constant"] = Field(
        default="nearest",
        description="what stands where the moved image leaves a gap (constant: black)",
    )
    brightness_range: Fraction = Field(
        default=0.0, description="lighter or darker; 0.1: 90 to 110 %"
    )
    contrast_range: Fraction = Field(
        default=0.0, description="more or less contrast; 0.1: 90 to 110 %"
    )
    saturation_range: Fraction = Field(
        default=0.0, description="more or less colour; 0.1: 90 to 110 %"
    )
    cutout: Fraction = Field(
        default=0.0, description="side of a grey square, as a fraction of the side"
    )
    mixup: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="blend each image and its label with another's; 0: never, 0.2: a little, "
        "1: any share (alpha of Beta(alpha, alpha))",
    )
    cutmix: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="paste a rectangle of another image, with its part of the label; 0: never, "
        "1: of any size (alpha of Beta(alpha, alpha))",
    )


class PretrainedSettings(Settings):
    """A net of torchvision or timm, with what its weights expect and a head for other classes."""

    name: str = Field(description="as `glasshouse models` lists it")
    arguments: dict[str, Any] = Field(default={}, description="for the net's constructor")
    weights: str = Field(default="usual", description="usual: the published ones; none; or a file")
    mean: Level | None = Field(
        default=None, description="of the input, 0..1; unset: as the net is known"
    )
    std: Level | None = Field(
        default=None, description="of the input, 0..1; unset: as the net is known"
    )
    input_size: Annotated[int, Field(ge=16, le=1024)] | None = Field(
        default=None,
        description="pixels a side that the net sees; unset: its own, or by a quick probe",
    )
    stem: Literal["kept", "fine"] | None = Field(
        default=None,
        description="fine: for small images, the first convolution and the pooling behind it "
        "keep their resolution; unset: kept, or by a quick probe",
    )
    hidden: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="units of a hidden layer in the new head; unset: none"
    )
    dropout: Fraction = Field(default=0.0, description="in the new head")


class ModelSettings(Settings):
    """The network: a preset's name, a list of layers, or a pretrained net."""

    preset: str | None = Field(default=None, description="a name that `glasshouse models` lists")
    layers: tuple[Layer, ...] | None = None
    pretrained: PretrainedSettings | None = None
    scaling: Literal["rescale", "standardize"] = Field(
        default="rescale",
        description="pixels to 0..1, or to the training set's mean 0 and deviation 1",
    )
    initialization: Literal["keras", "torch", "identity"] = Field(
        default="keras",
        description="keras: Glorot uniform and zero biases; torch: PyTorch's defaults; identity: "
        "as torch, but convolutions begin by passing their channels on",
    )
    mirror: bool = Field(
        default=False,
        description="predict with the mean of the image's and its mirror image's logits",
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> "ModelSettings":
        given = (self.preset, self.layers, self.pretrained)
        if sum(value is not None for value in given) != 1:
            raise ValueError("give either preset or layers or pretrained")
        return self


class Constant(Settings):
    """The rate stays as it is."""

    type: Literal["constant"] = "constant"


class StepDecay(Settings):
    """The rate is multiplied by factor after every so many epochs."""

    type: Literal["step"] = "step"
    every: Annotated[float, Field(gt=0)] = Field(description="epochs")
    factor: Annotated[float, Field(gt=0, le=1)] = 0.5


class Exponential(Settings):
    """The rate falls evenly in the logarithm, to final times its start."""

    type: Literal["exponential"] = "exponential"
    final: Annotated[float, Field(gt=0, le=1)] = 0.01


class Cosine(Settings):
    """Half a cosine from the rate to final times it (Loshchilov and Hutter 2017)."""

    type: Literal["cosine"] = "cosine"
    final: Annotated[float, Field(ge=0, le=1)] = 0.0


class OneCycle(Settings):
    """Up by a cosine for a share of the run, then down to almost nothing (Smith, Topin 2017)."""

    type: Literal["one_cycle"] = "one_cycle"
    rise: Annotated[float, Field(gt=0, lt=1)] = Field(default=0.3, description="share of the run")
    start: Annotated[float, Field(gt=0, le=1)] = Field(default=0.04, description="of the peak rate")
    final: Annotated[float, Field(ge=0, le=1)] = Field(default=4e-6, description="of the peak rate")


class Triangular(Settings):
    """Up and down in straight lines between base and the rate (Smith 2015, cyclical rates)."""

    type: Literal["triangular"] = "triangular"
    cycle: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="epochs up and down; unset: one cycle is the whole run"
    )
    base: Annotated[float, Field(ge=0, le=1)] = Field(default=0.1, description="of the peak rate")
    rise: Annotated[float, Field(gt=0, lt=1)] = Field(default=0.5, description="share of a cycle")
    halve: bool = Field(default=False, description="halve the height with each cycle (triangular2)")
    end: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="of the peak rate, where the last cycle ends; unset: as base"
    )


class PerEpoch(Settings):
    """A rate for each epoch by name; the last one holds for the rest."""

    type: Literal["per_epoch"] = "per_epoch"
    rates: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]


Schedule = Annotated[
    Constant | StepDecay | Exponential | Cosine | OneCycle | Triangular | PerEpoch,
    Field(discriminator="type"),
]


Sampling = Literal["shuffle", "balanced"]


class TrainSettings(Settings):
    """How the weights are found."""

    epochs: Annotated[int, Field(ge=1)] = Field(
        default=10, description="how often every training image is seen"
    )
    batch_size: Annotated[int, Field(ge=1)] = Field(
        default=32, description="images in one update; small sets need small batches"
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        default="adam",
        description="how weights are moved; sgd: with Nesterov momentum, needs higher rates",
    )
    lr: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        default=1e-3,
        description="the (peak) learning rate; auto: found by a range test before training",
    )
    momentum: Fraction = Field(default=0.9, description="of sgd")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="pulls the weights towards zero, against learning by heart"
    )
    bias_lr_factor: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="the rate of biases and of BatchNorm's shifts, as a factor of lr"
    )
    label_smoothing: Fraction = Field(
        default=0.0, description="share of each answer that is spread over the other classes"
    )
    schedule: Schedule = Field(default=Constant(), description="how the rate changes over the run")
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="linear rise from 0"
    )
    gradient_clip: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="largest norm"
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="keep a moving average of the weights and use it at the end"
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="balanced: rare classes weigh more, so that all weigh alike in sum",
    )
    sampling: Sampling = Field(
        default="shuffle",
        description="shuffle: an epoch shows every training image once; balanced: as many, but "
        "each class equally often, so that rare ones come again and common ones in turns",
    )
    early_stopping: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="stop after so many epochs without a better validation loss"
    )
    keep: Literal["last", "best"] = Field(default="last", description="best: by validation loss")
    keep_every: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="keep the weights of one in so many epochs to look back at, in half precision; "
        "0: of the last two alone",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 where the processor computes in it, else fp32"
    )
    device: str = Field(default="auto", description="auto: cuda where present, else cpu")
    seed: int = Field(
        default=0, description="decides the first weights, the order and the augmentation"
    )

    @model_validator(mode="after")
    def _balanced_once(self) -> "TrainSettings":
        if self.sampling == self.class_weights == "balanced":
            raise ValueError(
                "train.sampling and train.class_weights are both 'balanced', which would count "
                "rare classes twice over: choose one"
            )
        return self

    @property
    def peak_lr(self) -> float:
        """The rate as a number; raises UsageError while it is still to be found."""
        if self.lr == "auto":
            raise UsageError(
                "train.lr is 'auto', and no range test has been made: give a number, or use "
                "find_lr and with_found_rate before training"
            )
        return self.lr


HeadKind = Literal["logistic", "linear", "mlp"]


class TransferSettings(Settings):
    """Which part of the net is trained, and how."""

    way: Literal["tune", "gradual", "features"] = Field(
        default="tune",
        description="tune: train a part; gradual: ever more of it; features: the body stays frozen "
        "and is run once, and heads are fitted to what it gives",
    )
    trainable: str = Field(
        default="all",
        description="for tune: all, head, last-N or names of the net's parts, with commas",
    )
    unfreeze: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        default=("head", "last-2", "all"),
        description="for gradual: what is trainable, each for an equal share of the epochs",
    )
    rate_factor: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.3,
        description="for gradual: the rate of what joins later, times this at each stage",
    )
    batch_statistics: bool = Field(
        default=True, description="false: batch normalisation keeps the statistics of the weights"
    )
    heads: Annotated[tuple[HeadKind, ...], Field(min_length=1)] = Field(
        default=("logistic",), description="for features: the best on validation is kept"
    )
    strengths: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = Field(
        default=(0.001, 0.01, 0.1, 1.0), description="C of the logistic heads to try"
    )
    flips: bool = Field(
        default=True, description="for features: those of the mirrored images as well"
    )


class Recipe(Settings):
    """One whole experiment."""

    name: str = "custom"
    description: str = ""
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    model: ModelSettings = ModelSettings(preset="small-residual")
    train: TrainSettings = TrainSettings()
    transfer: TransferSettings = TransferSettings()

    @model_validator(mode="after")
    def _nothing_is_chosen_by_what_was_learnt(self) -> "Recipe":
        chooses = self.train.keep == "best" or self.train.early_stopping is not None
        if self.data.train_on_validation and (chooses or self.transfer.way == "features"):
            raise ValueError(
                "data.train_on_validation leaves no images to choose by: set train.keep to "
                "'last', no train.early_stopping, and transfer.way to 'tune' or 'gradual'"
            )
        return self

    @model_validator(mode="after")
    def _heads_need_a_body(self) -> "Recipe":
        if self.transfer != TransferSettings() and self.model.pretrained is None:
            raise ValueError("[transfer] needs model.pretrained, the net to start from")
        return self
