import subprocess
import sys

HEAVY = ("sklearn", "scipy", "matplotlib", "torchvision", "timm", "onnx", "multiprocessing.pool")


def test_neither_prediction_nor_a_trial_imports_a_heavy_library_that_it_does_not_need() -> None:
    # In a new process, since other tests have imported all of these already.
    code = (
        "import sys\n"
        "import glasshouse.data.sources, glasshouse.models.pretrained, glasshouse.models.bundled\n"
        "import glasshouse.models.predict, glasshouse.models.zoo\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
        # A search imports this in each of its workers.
        "import glasshouse.workflow.tune.worker\n"
        "glasshouse.data.sources.load_splits('digits')\n"
        "print([name for name in ('sklearn', 'scipy') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["[]", "[]"]
