"""The settings of an experiment: the fields below are the keys of a recipe.

Command-line options, documentation and the record in a run folder are derived from them. Names
follow Keras where Keras has one. The settings of augmentation, layers and schedules are in
``augment_settings``, ``net_settings`` and ``schedule_settings`` and can be imported from here.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from glasshouse.augment_settings import AugmentSettings as AugmentSettings
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
from glasshouse.schedule_settings import (
    Constant as Constant,
    Cosine as Cosine,
    Exponential as Exponential,
    OneCycle as OneCycle,
    PerEpoch as PerEpoch,
    Schedule as Schedule,
    StepDecay as StepDecay,
    Triangular as Triangular,
)

# One value for all three channels, or one per channel.
Level = float | tuple[float, float, float]


class DataSettings(Settings):
    """How images are read and split."""

    image_size: Annotated[int, Field(ge=4, le=1024)] | None = Field(
        default=None,
        description="height and width in pixels; unset: the size of the source, 64 for files",
    )
    resize: Literal["auto", "crop", "letterbox", "stretch"] = Field(
        default="auto",
        description="how images that are not square become square; auto: crop, or letterbox where "
        "cropping would remove too much",
    )
    validation_fraction: Annotated[float, Field(gt=0, lt=0.9)] = Field(
        default=0.1,
        description="share of train held out for model selection, if the source has no such split",
    )
    train_on_validation: bool = Field(
        default=False,
        description="also train on the validation images, once all choices are made: metrics on "
        "them are then too optimistic, and probabilities stay uncalibrated",
    )
    test_fraction: Annotated[float, Field(gt=0, lt=0.9)] = Field(
        default=0.2,
        description="share held out for the final evaluation, if the source has no such split",
    )
    split_seed: int = Field(default=0, description="decides which images are held out")
    train_limit: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="train on at most this many images, spread evenly over the classes",
    )
    on_bad_file: Literal["error", "skip"] = Field(
        default="error", description="what to do when a file cannot be read as an image"
    )
    on_finding: Literal["error", "ignore"] = Field(
        default="error",
        description="whether training stops when `check` finds errors that make metrics wrong",
    )


class PretrainedSettings(Settings):
    """A pretrained network of torchvision or timm or a bundled one, its input and its new head."""

    name: str = Field(description="a name that `glasshouse models` lists")
    arguments: dict[str, Any] = Field(default={}, description="passed to the network's constructor")
    weights: str = Field(
        default="usual", description="usual: the published weights; none: untrained; or a file"
    )
    mean: Level | None = Field(
        default=None, description="mean of the input, in 0..1; unset: as published with the weights"
    )
    std: Level | None = Field(
        default=None,
        description="deviation of the input, in 0..1; unset: as published with the weights",
    )
    input_size: Annotated[int, Field(ge=16, le=1024)] | None = Field(
        default=None,
        description="height and width in pixels that the network sees; unset: its own, or chosen "
        "by a quick comparison",
    )
    stem: Literal["kept", "fine"] | None = Field(
        default=None,
        description="fine: for small images, the first convolution and the pooling after it keep "
        "their resolution; unset: kept, or chosen by a quick comparison",
    )
    hidden: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="units of a hidden layer in the new head; unset: no hidden layer"
    )
    dropout: Fraction = Field(default=0.0, description="dropout rate in the new head")


class ModelSettings(Settings):
    """The network: a preset, a list of layers, a pretrained network, or code of your own."""

    preset: str | None = Field(default=None, description="a name that `glasshouse models` lists")
    layers: tuple[Layer, ...] | None = None
    pretrained: PretrainedSettings | None = None
    code: str | None = Field(
        default=None,
        description="the code of your own network, FILE.py:FUNCTION; it runs only where --net "
        "names it on the command line",
    )
    scaling: Literal["rescale", "standardize", "standardize_global"] = Field(
        default="rescale",
        description="rescale: pixels to 0..1; standardize: each channel to mean 0 and standard "
        "deviation 1 over the training images; standardize_global: the same with one mean and one "
        "deviation of all channels",
    )
    initialization: Literal["keras", "torch", "identity"] = Field(
        default="keras",
        description="keras: Glorot uniform and zero biases; torch: PyTorch's defaults; identity: "
        "like torch, but convolutions start out by passing their input channels through",
    )
    mirror: bool = Field(
        default=False,
        description="predict from the mean logits of each image and its mirror image",
    )
    shifts: bool = Field(
        default=False,
        description="predict from the mean logits of each view and of that view moved by a pixel, "
        "up left and down right, which takes three times as long",
    )

    @model_validator(mode="after")
    def _exactly_one_network(self) -> "ModelSettings":
        given = (self.preset, self.layers, self.pretrained, self.code)
        if sum(value is not None for value in given) != 1:
            raise ValueError("expected exactly one of preset, layers, pretrained and code")
        return self


Sampling = Literal["shuffle", "balanced"]


class TrainSettings(Settings):
    """How the network is trained."""

    epochs: Annotated[int, Field(ge=1)] = Field(
        default=10, description="passes over the training images"
    )
    batch_size: Annotated[int, Field(ge=1)] = Field(
        default=32, description="images per update; small training sets need small batches"
    )
    shards: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="cut each batch into this many parts, a power of two: up to as many processes "
        "then train together, and their number changes no byte of the result",
    )
    optimizer: Literal["adam", "adamw", "sgd", "muon"] = Field(
        default="adam",
        description="sgd: with Nesterov momentum; needs higher learning rates. muon: the same, but "
        "filters of convolutions turn by a share of their norm, in all directions alike",
    )
    lr: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        default=1e-3,
        description="the (peak) learning rate; auto: found by a learning-rate range test; unset "
        "where rates are listed per epoch: the highest of them",
    )
    momentum: Fraction = Field(default=0.9, description="momentum of sgd and muon")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="pulls weights towards zero; reduces overfitting"
    )
    bias_lr_factor: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="learning rate of biases and BatchNorm shifts, as a factor of lr"
    )
    filter_lr_factor: Annotated[float, Field(gt=0)] = Field(
        default=0.1,
        description="for muon: the share of their norm by which filters turn, as a factor of lr",
    )
    label_smoothing: Fraction = Field(
        default=0.0, description="share of each label that is spread over the other classes"
    )
    schedule: Schedule = Field(
        default=Constant(), description="how the learning rate changes over the run"
    )
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="epochs of a linear rise from 0"
    )
    gradient_clip: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="largest norm of the gradient; unset: no clipping"
    )
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="keep an exponential moving average of the weights, used as the final weights",
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="balanced: weight the loss so that all classes have the same total weight",
    )
    sampling: Sampling = Field(
        default="shuffle",
        description="shuffle: each training image once per epoch; balanced: the same number of "
        "images, but each class equally often, so that images of rare classes are repeated",
    )
    early_stopping: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="stop after this many epochs without improvement of the validation loss, and "
        "keep the best epoch unless train.keep says otherwise",
    )
    keep: Literal["last", "best"] = Field(
        default="last", description="best: the epoch with the lowest validation loss"
    )
    keep_every: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="keep the weights of every n-th epoch in half precision, to be compared later; "
        "0: only those of the last two epochs",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 where the processor is faster in it, else fp32"
    )
    device: str = Field(default="auto", description="auto: cuda if available, else mps, else cpu")
    threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        default="auto",
        description="of the processor; auto: all, or fewer where a short measurement at the start "
        "shows that other programs use it. Results are equal to the byte for equal numbers",
    )
    seed: int = Field(
        default=0,
        description="seed of the initial weights, the order of images and the augmentation",
    )

    @model_validator(mode="before")
    @classmethod
    def _early_stopping_keeps_the_best_epoch(cls, values: Any) -> Any:
        # The last epoch is by then several epochs past the best one.
        if isinstance(values, Mapping) and values.get("early_stopping") is not None:
            return {"keep": "best", **values}
        return values

    @model_validator(mode="before")
    @classmethod
    def _listed_rates_have_a_peak(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "lr" not in values:
            with suppress(ValidationError):  # another schedule, or one that its field refuses
                listed = PerEpoch.model_validate(values.get("schedule"))
                return {**values, "lr": max(listed.rates)}
        return values

    @model_validator(mode="after")
    def _peak_is_that_of_listed_rates(self) -> "TrainSettings":
        if not isinstance(self.schedule, PerEpoch) or self.lr == "auto":
            return self
        peak = max(self.schedule.rates)
        if self.lr != peak:
            raise ValueError(
                f"train.lr = {self.lr:g}, but train.schedule lists the rate of each epoch, at most "
                f"{peak:g}: set train.lr={peak:g}, or for another rate choose another schedule, "
                "such as train.schedule.type=constant"
            )
        return self

    @model_validator(mode="after")
    def _balanced_at_most_once(self) -> "TrainSettings":
        if self.sampling == self.class_weights == "balanced":
            raise ValueError(
                "train.sampling and train.class_weights are both 'balanced', which would "
                "compensate for rare classes twice: choose one"
            )
        return self

    @model_validator(mode="after")
    def _batches_can_be_cut(self) -> "TrainSettings":
        if self.shards & (self.shards - 1):
            raise ValueError(f"train.shards = {self.shards}: expected a power of two, 1, 2, 4, 8")
        if self.shards > 1 and self.batch_size % (2 * self.shards):
            step = 2 * self.shards
            near = max(step, round(self.batch_size / step) * step)
            raise ValueError(
                f"train.batch_size = {self.batch_size} cannot be cut into train.shards = "
                f"{self.shards} equal parts of an even number of images: expected a multiple of "
                f"{step}, such as {near}"
            )
        return self

    @property
    def peak_lr(self) -> float:
        """The learning rate as a number; raises UsageError while it is still "auto"."""
        if self.lr == "auto":
            raise UsageError(
                "train.lr is 'auto', but no range test has been run: set a number, or use "
                "find_lr and with_found_rate before training"
            )
        return self.lr


HeadKind = Literal["logistic", "linear", "mlp"]


class TransferSettings(Settings):
    """Which parts of a pretrained network are trained, and how."""

    way: Literal["tune", "gradual", "features"] = Field(
        default="tune",
        description="tune: fine-tune some layers; gradual: unfreeze the network stage by stage; "
        "features: run the frozen backbone once and fit heads to its features",
    )
    trainable: str = Field(
        default="all",
        description="for tune: all, head, last-N, or names of modules separated by commas",
    )
    unfreeze: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        default=("head", "last-2", "all"),
        description="for gradual: what is trainable at each stage; stages have equal lengths",
    )
    rate_factor: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.3,
        description="for gradual: factor on the learning rate of layers that are unfrozen later, "
        "applied once per stage",
    )
    batch_statistics: bool = Field(
        default=True,
        description="false: batch normalisation keeps the statistics of the pretrained weights",
    )
    heads: Annotated[tuple[HeadKind, ...], Field(min_length=1)] = Field(
        default=("logistic",),
        description="for features: heads to fit, of which the best on validation is kept",
    )
    strengths: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = Field(
        default=(0.001, 0.01, 0.1, 1.0),
        description="for features: values of C to try for logistic heads",
    )
    flips: bool = Field(
        default=True, description="for features: also extract those of the mirrored images"
    )


class Recipe(Settings):
    """One complete experiment."""

    name: str = "custom"
    description: str = ""
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    model: ModelSettings = ModelSettings(preset="small-residual")
    train: TrainSettings = TrainSettings()
    transfer: TransferSettings = TransferSettings()

    @model_validator(mode="after")
    def _selection_needs_images_not_trained_on(self) -> "Recipe":
        chooses = self.train.keep == "best" or self.train.early_stopping is not None
        if self.data.train_on_validation and (chooses or self.transfer.way == "features"):
            raise ValueError(
                "data.train_on_validation leaves no images for model selection: set train.keep to "
                "'last', leave train.early_stopping unset, and set transfer.way to 'tune' or "
                "'gradual'"
            )
        return self

    @model_validator(mode="after")
    def _transfer_needs_a_pretrained_network(self) -> "Recipe":
        if self.transfer != TransferSettings() and self.model.pretrained is None:
            raise ValueError("[transfer] needs model.pretrained, the network to start from")
        return self

    @model_validator(mode="after")
    def _cached_features_have_one_view(self) -> "Recipe":
        if self.transfer.way == "features" and (self.model.mirror or self.model.shifts):
            raise ValueError(
                "model.mirror and model.shifts need transfer.way 'tune' or 'gradual': features are "
                "computed of the images as they are"
            )
        return self
