"""The `glasshouse` command: one thin file per subcommand, assembled here."""

import errno
import io
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from glasshouse.child_python import safe_children
from glasshouse.cli import (
    cache,
    check,
    compare,
    compare_backbones,
    data_map,
    evaluate,
    explain,
    export,
    folds,
    groups,
    ladder,
    lr_find,
    models,
    predict,
    recipes,
    reproduce,
    runs,
    serve,
    shortcuts,
    summary,
    tour,
    train,
    tune,
    ui,
)
from glasshouse.errors import (
    GlasshouseError,
    GlasshouseWarning,
    StorageError,
    UsageError,
    describe_failed,
    describe_refused,
    naming_full_gpu,
)
from glasshouse.memory import keep_freed_memory

# The system refuses a path before it looks whether anything is there.
_REFUSED_PATHS = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EILSEQ)

# What people call a command that has another name, which no likeness of letters would find.
_ALSO_CALLED = {
    "workbench": "ui", "studio": "ui", "gui": "ui", "app": "ui", "web": "ui",
    "fit": "train", "finetune": "train", "fine-tune": "train", "transfer": "train",
    "test": "evaluate", "score": "evaluate",
    "classify": "predict", "infer": "predict", "label": "predict",
    "gradcam": "explain", "grad-cam": "explain", "saliency": "explain", "activations": "explain",
    "onnx": "export", "convert": "export",
    "cv": "folds", "cross-validate": "folds", "cross-validation": "folds",
    "search": "tune", "sweep": "tune", "optimize": "tune",
    "validate": "check", "inspect": "check", "embed": "map", "demo": "tour", "api": "serve",
    "bias": "shortcuts", "clean": "cache", "list": "runs",
}  # fmt: skip


class _Commands(TyperGroup):
    """The commands, which are also found by what other tools call them."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer does it, unless the name is one that is known from elsewhere."""
        meant = _ALSO_CALLED.get(args[0].lower().replace("_", "-"))
        if meant is not None:
            ctx.fail(f"No such command {args[0]!r}. Did you mean 'glasshouse {meant}'?")
        return super().resolve_command(ctx, args)


app: typer.Typer = typer.Typer(
    name="glasshouse",
    cls=_Commands,
    help="Image classifiers that you can see through: train, evaluate and explain them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(tour.tour)
app.command()(check.check)
app.command()(train.train)
app.command("lr-find")(lr_find.lr_find)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(ladder.ladder)
app.command()(tune.tune)
app.command()(reproduce.reproduce)
app.command()(predict.predict)
app.command()(explain.explain)
app.command()(shortcuts.shortcuts)
app.command()(groups.groups)
app.command("map")(data_map.data_map)
app.command()(export.export)
app.command()(serve.serve)
app.command()(summary.summary)
app.command()(models.models)
app.command()(recipes.recipes)
app.command("compare-backbones")(compare_backbones.compare_backbones)
app.command()(folds.folds)
app.command("label-errors")(folds.label_errors)
app.command()(runs.runs)
app.command()(cache.cache)
app.command()(ui.ui)


def _show_version(wanted: bool) -> None:
    if wanted:
        from glasshouse import __version__

        print(f"glasshouse {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


def _print_warnings() -> None:
    """Print our own warnings as messages, without the line of code that they come from."""
    show_others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, GlasshouseWarning):
            print(f"glasshouse: {message}", file=sys.stderr)
        else:
            show_others(message, category, *place, **more)

    warnings.showwarning = show
    warnings.simplefilter("always", GlasshouseWarning)


def main() -> None:
    """Run a command; errors that the user can fix are printed without a traceback."""
    keep_freed_memory()
    for stream in (sys.stdout, sys.stderr):
        # A terminal or a file in another encoding, and names of files in none, are no reason to
        # stop: what cannot be written becomes an escape, which JSON reads back.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    _print_warnings()
    try:
        with safe_children(), naming_full_gpu():
            app(standalone_mode=True)
    except GlasshouseError as error:
        print(f"glasshouse: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever reads our output, `head` for example, has closed the pipe.
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        # Any argument may be a path and any file may be on a disk that fails, so both are caught
        # where everything passes. Without a number it is no answer of the system.
        if error.errno is None:
            raise
        is_refused = error.errno in _REFUSED_PATHS and error.filename is not None
        words = describe_refused(error) if is_refused else describe_failed(error)
        print(f"glasshouse: {words}", file=sys.stderr)
        sys.exit(UsageError.exit_code if is_refused else StorageError.exit_code)
