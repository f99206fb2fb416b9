"""Classifiers named on the command line, with a warning where their weights need arguments."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glasshouse.errors import UsageError

if TYPE_CHECKING:
    from glasshouse.models.classifier import Classifier
    from glasshouse.settings import Recipe


@dataclass(frozen=True)
class NamedModel:
    """What a command says of its model.

    model: MODEL, a run folder or the name of a network; None where net takes its place. net: the
    user's own code. class_names: a file. device: where it computes.
    """

    model: str | None
    net: str | None = None
    weights: Path | None = None
    class_names: Path | None = None
    offline: bool = False
    device: str = "cpu"

    @property
    def shown(self) -> str:
        """What the model is called in texts."""
        if self.model is not None:
            return self.model
        return ":".join(str(self.net).split(":")[:2])

    @property
    def has_weights_or_names(self) -> bool:
        """Whether files of weights or class names come with it."""
        return self.weights is not None or self.class_names is not None

    def checked(self) -> "NamedModel":
        """Itself; raises UsageError or ModelError for what is seen to be wrong without torch."""
        from glasshouse.cli import early_checks
        from glasshouse.models.known_names import bundled_names, require_own_weights

        if self.model is None and self.net is None:
            raise UsageError("expected a MODEL, or --net with your own code; received neither")
        if self.model is not None:
            early_checks.require_model(self.model, self.weights)
        else:
            early_checks.require_weights_file(self.weights)
        if self.net is not None and self.model is not None and not is_saved(self.model):
            raise UsageError(
                f"--net {self.net} takes the place of MODEL, or is the code of a run; {self.model} "
                "is not a run folder"
            )
        names = self.names()
        if self.model is not None and (is_saved(self.model) or self.model in bundled_names()):
            require_own_weights(self.model, self.weights, names)
        return self

    def names(self) -> tuple[str, ...] | None:
        """The class names of the file; raises UsageError for a file that does not say them."""
        from glasshouse.data.names_file import read_class_names

        return None if self.class_names is None else read_class_names(self.class_names)


def finished_run(
    run: Path, net: str | None, *, reread: bool, offline: bool, device: str
) -> NamedModel:
    """The model of a finished run, whose images are decoded again where --reread asks for it."""
    from glasshouse.cli import early_checks

    early_checks.reread_run(reread, run)
    early_checks.require_finished([run])
    return NamedModel(str(run), net, offline=offline, device=device).checked()


def is_saved(model: str) -> bool:
    """Whether MODEL is a folder that holds a run or a saved classifier."""
    from glasshouse.runs import folder as runs

    return any((Path(model) / name).is_file() for name in (runs.MODEL, runs.RECIPE))


def model_and_images(
    model: str | None, images: Sequence[Path] | None, net: str | None
) -> tuple[str | None, list[Path]]:
    """MODEL and the images: with --net, MODEL may be left out, so that the first is an image."""
    given = list(images or ())
    if net is None or model is None or is_saved(model):
        return model, given
    return None, [Path(model), *given]


def classifier_named(named: NamedModel) -> "Classifier":
    """The classifier of MODEL, on its device.

    Says on standard error what --weights seem to need in addition.
    """
    from glasshouse.models.devices import choose_device, use_device
    from glasshouse.models.threads import use_fastest_threads

    choose_device(named.device)  # before weights are read, which may take long
    if named.device == "cpu":
        use_fastest_threads()
    return use_device(_classifier_named(named), named.device)


def _classifier_named(named: NamedModel) -> "Classifier":
    from glasshouse.cli.progress_bars import say
    from glasshouse.workflow.use.model_names import classifier_by_name
    from glasshouse.workflow.use.own_code import own_classifier

    if named.model is None:
        assert named.net is not None
        classifier, notes = own_classifier(
            named.net, weights=named.weights, class_names=named.names()
        )
        for note in notes:
            say(f"note: {note}")
        return classifier
    return classifier_by_name(
        named.model,
        weights=named.weights,
        offline=named.offline,
        class_names=named.names(),
        own_code=named.net,
    )


def warn_of_weights(recipe: "Recipe") -> None:
    """Say what the weights file that a recipe starts from seems to need in addition, if any.

    Before the images are read. Where the network is adapted to them, it is not said twice.
    """
    from dataclasses import replace

    from glasshouse.errors import ModelError
    from glasshouse.models.argument_hints import warn_of_adapted
    from glasshouse.models.zoo import arguments_for, create, with_levels

    settings = recipe.model.pretrained
    if settings is None or settings.weights in ("usual", "none"):
        return
    path = Path(settings.weights)
    try:
        # Any classes do: a file may have no head, or one for other classes.
        name, arguments = arguments_for(settings)
        found = create(name, ("a", "b"), weights=path, arguments=arguments).classifier
    except ModelError:
        return  # Raised again, with the reason, where the network is built for the images.
    levels = with_levels(found.preprocessing, settings)
    warn_of_adapted(replace(found, preprocessing=levels), path)
