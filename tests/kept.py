"""What is shown or described, compared with a text that is kept of it.

After a deliberate change: run the tests with GLASSHOUSE_WRITE_KEPT=1, and read what git says has
changed before it is committed.
"""

import os
from pathlib import Path


def require_kept(path: Path, found: str) -> None:
    """Assert that a text equals the kept one, or keep it as it is now."""
    if "GLASSHOUSE_WRITE_KEPT" in os.environ:
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")
