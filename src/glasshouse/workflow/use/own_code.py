"""A user's own network, named on the command line as FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION.

Nothing else imports code from the folder of the user: neither a recipe nor a run can have code run,
although both may say which code they were made with.
"""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from glasshouse.errors import GlasshouseError, ModelError, UsageError, did_you_mean, type_words
from glasshouse.models.classifier import Classifier, saved_class_names
from glasshouse.models.net_arguments import channel_values, parsed_arguments, require_pixels
from glasshouse.models.preprocessing import Preprocessing
from glasshouse.models.trial import trial_inputs
from glasshouse.models.weight_files import read_weights
from glasshouse.models.weights import load_weights

_EXPECTED = "FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, such as nets.py:small_net"
# What functions call the number of classes.
_COUNTS = ("num_classes", "n_classes", "class_count", "num_labels", "n_labels", "classes")


@dataclass(frozen=True)
class OwnCode:
    """What --net says: where the code is, its function, and values for it.

    arguments: for the function, without what belongs to the preprocessing: input_size, mean, std.
    """

    place: str
    function: str
    arguments: Mapping[str, Any]
    input_size: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


def parse_own_code(text: str) -> OwnCode:
    """What --net says; raises UsageError for anything but a place and a function."""
    # A drive of Windows ends in a colon as well.
    drive = text[:2] if text[1:2] == ":" and text[2:3] in ("\\", "/") else ""
    place, _, rest = text[len(drive) :].partition(":")
    function, colon, values = rest.partition(":")
    if not place or not function.isidentifier():
        raise UsageError(f"--net {text}: expected {_EXPECTED}")
    arguments = parsed_arguments(text, values) if colon else {}
    size = arguments.pop("input_size", None)
    require_pixels(size)
    levels = {
        key: channel_values(key, arguments.pop(key)) for key in ("mean", "std") if key in arguments
    }
    return OwnCode(drive + place, function, arguments, size, **levels)


def build_own(code: OwnCode, class_count: int | None) -> nn.Module | Classifier:
    """Call the function, which returns a network or a classifier.

    class_count: passed on where the function has an argument for it. Raises UsageError where there
    is no such code, and ModelError for code that fails or returns something else.
    """
    with _importable(code):
        found = _function(code)
        if isinstance(found, nn.Module | Classifier):
            return found
        try:
            made = found(**_values(found, code, class_count))
        except GlasshouseError:
            raise
        # Code of the user's own may raise anything, and may call sys.exit.
        except (Exception, SystemExit) as error:
            raise ModelError(f"{_name(code)} failed: {_reason(error)}") from error
    if not isinstance(made, nn.Module | Classifier):
        raise ModelError(
            f"{_name(code)} returned {type_words(made)}: expected a torch.nn.Module, or a "
            "glasshouse Classifier"
        )
    return made


def own_net(code: OwnCode, class_count: int | None) -> nn.Module:
    """The network of `build_own`, also where the function returns a classifier."""
    made = build_own(code, class_count)
    return made.net if isinstance(made, Classifier) else made


def own_net_of(folder: Path, text: str | None) -> nn.Module | None:
    """The network for the weights in a folder, as --net says; None where it says nothing."""
    if text is None:
        return None
    names = saved_class_names(folder)
    return own_net(parse_own_code(text), len(names))


def own_classifier(
    text: str, *, weights: Path | None = None, class_names: tuple[str, ...] | None = None
) -> tuple[Classifier, tuple[str, ...]]:
    """The classifier of what --net says, in evaluation mode, and notes on what was assumed.

    weights: a file that replaces the weights that the function returns. class_names: None keeps
    those of a classifier; a network then has "class 0" and so on. Raises UsageError where the size
    of its images is not known, and what `build_own` raises.
    """
    code = parse_own_code(text)
    made = build_own(code, None if class_names is None else len(class_names))
    net = made.net if isinstance(made, Classifier) else made
    notes: tuple[str, ...] = ()
    if weights is not None:
        found, notes = read_weights(weights)
        notes = (*notes, *load_weights(net, found, weights))
    elif not isinstance(made, Classifier):
        notes = (f"without --weights, the network has those that {_name(code)} gives it",)
    known, assumed = _preprocessing(code, made)
    notes = (*notes, *assumed)
    if isinstance(made, Classifier):
        names = made.class_names if class_names is None else class_names
        if names != made.class_names:
            # What the function itself said of its classes has their old names.
            notes = (*notes, f"the classes of {_name(code)} are renamed: {_renamed(made, names)}")
        is_same = weights is None and known == made.preprocessing
        return replace(
            made,
            preprocessing=known,
            class_names=names,
            conformity=made.conformity if is_same else None,
        ), notes
    return _named(net.eval(), known, class_names), notes


def _named(net: nn.Module, known: Preprocessing, names: tuple[str, ...] | None) -> Classifier:
    if names is not None:
        return Classifier(net, known, names)
    nameless = Classifier(net, known, ())
    with torch.no_grad():
        count = nameless.net(trial_inputs(nameless.net, known)).shape[1]
    return replace(nameless, class_names=tuple(f"class {number}" for number in range(count)))


def _renamed(made: Classifier, names: tuple[str, ...]) -> str:
    pairs = [f"{old} is {new}" for old, new in zip(made.class_names, names, strict=False)]
    return ", ".join(pairs[:4]) + (" and so on" if len(pairs) > 4 else "")


def _preprocessing(
    code: OwnCode, made: nn.Module | Classifier
) -> tuple[Preprocessing, tuple[str, ...]]:
    """What --net says of the preprocessing, or what the code itself says, or what is usual."""
    size, mean, std = code.input_size, code.mean, code.std
    if isinstance(made, Classifier):
        known = made.preprocessing
        return replace(
            known,
            height=size or known.height,
            width=size or known.width,
            mean=mean or known.mean,
            std=std or known.std,
        ), ()
    # As timm writes it into its networks.
    config = getattr(made, "pretrained_cfg", None) or {}
    if size is None and config.get("input_size"):
        size = int(config["input_size"][-1])
    if size is None:
        raise UsageError(
            f"--net {code.place}:{code.function}: how large are its images? Add input_size, and "
            "mean and std where it was trained with them: "
            f"{code.place}:{code.function}:input_size=224,mean=0.485,0.456,0.406,"
            "std=0.229,0.224,0.225"
        )
    notes = []
    if mean is None and std is None and not config.get("mean"):
        notes.append(
            "the network gets values from 0 to 1; if it was trained with a mean and a deviation, "
            "add them to --net: mean=0.485,0.456,0.406,std=0.229,0.224,0.225"
        )
    return Preprocessing(
        size,
        size,
        mean=mean or tuple(config.get("mean") or (0.0, 0.0, 0.0)),
        std=std or tuple(config.get("std") or (1.0, 1.0, 1.0)),
    ), tuple(notes)


@contextmanager
def _importable(code: OwnCode) -> Iterator[None]:
    """The folder of the code among those that are imported from, after all others."""
    is_file = code.place.endswith(".py")
    folder = str(Path(code.place).resolve().parent if is_file else Path.cwd())
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _function(code: OwnCode) -> Any:
    module = _module(code)
    found = getattr(module, code.function, None)
    if callable(found) or isinstance(found, Classifier):
        return found
    names = [name for name, each in vars(module).items() if callable(each) and name[0] != "_"]
    raise UsageError(
        f"--net: {code.place} has no function {code.function}. {did_you_mean(code.function, names)}"
    )


def _module(code: OwnCode) -> ModuleType:
    path = Path(code.place)
    if not code.place.endswith(".py"):
        return _imported(code, lambda: importlib.import_module(code.place))
    if not path.is_file():
        raise UsageError(f"--net: the file {path} does not exist")
    name = f"_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None and spec.loader is not None
    module, loader = importlib.util.module_from_spec(spec), spec.loader
    # Classes look their module up, those of dataclasses for example.
    sys.modules[name] = module

    def run() -> ModuleType:
        loader.exec_module(module)
        return module

    return _imported(code, run)


def _imported(code: OwnCode, run: Any) -> ModuleType:
    try:
        module: ModuleType = run()
    except ModuleNotFoundError as error:
        if error.name is not None and code.place.startswith(error.name):
            raise UsageError(
                f"--net: there is no module {error.name}, neither in {Path.cwd()} nor installed; "
                f"expected {_EXPECTED}"
            ) from error
        raise ModelError(f"{code.place} cannot be imported: {_reason(error)}") from error
    # Code of the user's own may raise anything, and may call sys.exit.
    except (Exception, SystemExit) as error:
        raise ModelError(f"{code.place} cannot be imported: {_reason(error)}") from error
    return module


def _values(function: Any, code: OwnCode, class_count: int | None) -> dict[str, Any]:
    """The arguments of a call: what --net says, and the number of classes."""
    values = dict(code.arguments)
    try:
        known = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return values
    takes_all = any(each.kind is each.VAR_KEYWORD for each in known.values())
    unknown = [key for key in values if key not in known and not takes_all]
    if unknown:
        raise UsageError(
            f"{_name(code)} has no argument {unknown[0]}. {did_you_mean(unknown[0], known)}"
        )
    count = next((name for name in _COUNTS if name in known), None)
    if class_count is not None and count is not None:
        values.setdefault(count, class_count)
    return values


def _name(code: OwnCode) -> str:
    return f"{code.place}:{code.function}"


def _reason(error: BaseException) -> str:
    """What happened, and in which line of the user's code."""
    frames = [
        each
        for each in traceback.extract_tb(error.__traceback__)
        if "importlib" not in each.filename and each.filename != __file__
    ]
    where = f" ({Path(frames[0].filename).name}, line {frames[0].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
