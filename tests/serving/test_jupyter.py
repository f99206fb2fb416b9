from importlib.metadata import entry_points
from pathlib import Path

import pytest

from glasshouse.serving.jupyter import jupyter_server

proxy = pytest.importorskip("jupyter_server_proxy.config")


def test_the_proxy_finds_it_by_its_entry_point() -> None:
    (found,) = (
        each for each in entry_points(group="jupyter_serverproxy_servers")
        if each.name == "glasshouse"
    )  # fmt: skip
    assert found.load() is jupyter_server


def test_every_key_is_one_that_the_proxy_knows() -> None:
    kind = proxy.ServerProcess  # a tuple with names in older versions
    known = getattr(kind, "_fields", None) or kind.class_trait_names()
    described = jupyter_server()
    assert set(described) <= set(known)
    icon = Path(described["launcher_entry"]["icon_path"])
    assert icon.suffix == ".svg" and icon.read_text(encoding="utf-8").startswith("<svg")


def test_the_notebook_server_alone_knows_the_token() -> None:
    first, second = jupyter_server(), jupyter_server()
    token = first["environment"]["GLASSHOUSE_TOKEN"]
    assert first["request_headers_override"] == {"Authorization": f"Bearer {token}"}
    assert token != second["environment"]["GLASSHOUSE_TOKEN"] and len(token) >= 32
    # Command lines can be seen by other users.
    assert not any(token in part for part in first["command"])
