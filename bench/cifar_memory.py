"""The largest memory of `glasshouse train cifar10`, from start to report.

Claim: at most 1.5 GiB, for the tutorial's largest recipe, the default one and `fast`. One epoch of
all training images each, which takes as much as ten. Reads GLASSHOUSE_DATA.
Run: python bench/cifar_memory.py [RECIPE...]
"""

import json
import subprocess
import sys
import tempfile

from contest import judge, machine

RECIPES = ("tutorial-wide-bn", "small-residual", "fast")
# In a process of its own, so that its children are those of one training alone.
MEASURED = """
import json, resource, subprocess, sys
subprocess.run([sys.executable, "-m", "glasshouse", *sys.argv[1:]], check=True)
print(json.dumps(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2))
"""


def peak_gib(recipe: str) -> float:
    """The largest resident size of the command."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["train", "cifar10", "--recipe", recipe, "--set", "train.epochs=1"]
        command = [sys.executable, "-c", MEASURED, *arguments, "--out", f"{folder}/run"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    print(machine())
    held = [
        judge(f"{recipe}, GiB at most", peak_gib(recipe), 1.5, at_least=False)
        for recipe in sys.argv[1:] or RECIPES
    ]
    raise SystemExit(not all(held))


if __name__ == "__main__":
    main()
