"""The tutorial's recipes as they are shipped, on real CIFAR-10: test accuracy after ten epochs.

Claims: the tutorial's own accuracies, 69 % with `tutorial-basic` and 75.3 % with
`tutorial-wide-bn`. Each is a whole run of the command on the official test images, printed as a row
of a table. Finished runs in the folder are used again. Needs GLASSHOUSE_DATA.
Run: python bench/tutorial_recipes.py [FOLDER for the runs]
"""

import json
import subprocess
import sys
from pathlib import Path

from contest import judge, machine

RECIPES = (
    "tutorial-basic-no-augment", "tutorial-basic", "tutorial-wide", "tutorial-wide-fixed-lr",
    "tutorial-wide-schedule", "tutorial-wide-bn",
)  # fmt: skip
CLAIMS = {"tutorial-basic": 69.0, "tutorial-wide-bn": 75.3}


def accuracy(recipe: str, folder: Path) -> dict[str, float]:
    """Value, low and high of a whole run."""
    if not (folder / "evaluation.json").is_file():
        command = [sys.executable, "-m", "glasshouse", "train", "cifar10", "--recipe", recipe,
                   "--out", str(folder), "--resume"]  # fmt: skip
        subprocess.run(command, check=True)
    found: dict[str, float] = json.loads((folder / "evaluation.json").read_text())["accuracy"]
    return found


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/tutorial-recipes")
    print(machine())
    found = {recipe: accuracy(recipe, folder / recipe) for recipe in RECIPES}
    for recipe, each in found.items():
        value, low, high = (f"{100 * each[name]:.2f}" for name in ("value", "low", "high"))
        print(f"| `{recipe}` | {value} % ({low} to {high}) |")
    held = [judge(f"{r}, test accuracy in %", 100 * found[r]["value"], CLAIMS[r]) for r in CLAIMS]
    raise SystemExit(not all(held))


if __name__ == "__main__":
    main()
