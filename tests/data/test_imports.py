import subprocess
import sys

HEAVY = ("sklearn", "scipy", "matplotlib", "torchvision", "timm", "onnx", "multiprocessing.pool")


def test_what_prediction_needs_imports_no_heavy_library() -> None:
    # In a new process, since other tests have imported all of these already.
    code = (
        "import sys\n"
        "import glasshouse.data.sources, glasshouse.models.pretrained, glasshouse.models.bundled\n"
        "import glasshouse.models.predict, glasshouse.models.zoo\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
