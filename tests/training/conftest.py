"""What tests of training share."""

import pytest
from torch.nn import functional

from glasshouse.training import layer_passes


@pytest.fixture
def torch_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train with torch's dropout, to compare with plain loops of torch."""
    monkeypatch.setattr(layer_passes, "dropout", functional.dropout)
