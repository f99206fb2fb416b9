"""What has to be alike on all machines for their results to be."""

from collections.abc import Callable, Mapping

from glasshouse.errors import UsageError

Versions = Mapping[str, str]


def version_reader() -> Callable[[], Versions]:
    """A function that reads the versions where it is called; "none": not installed.

    It is made here because Ray sends what is local to a function by its code, so that it runs on
    a machine without Glasshouse.
    """

    def read() -> Versions:
        import hashlib
        import importlib.metadata
        import importlib.util
        import platform
        from pathlib import Path

        found = {"python": ".".join(platform.python_version_tuple()[:2])}
        for name in ("glasshouse", "torch", "torchvision", "timm", "numpy", "ray"):
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = "none"
        spec = importlib.util.find_spec("glasshouse")
        digest = hashlib.sha256()
        root = Path(spec.origin).parent if spec and spec.origin else None
        for path in sorted(root.rglob("*.py")) if root else ():
            digest.update(str(path.relative_to(root or ".")).encode() + path.read_bytes())
        found["code of glasshouse"] = digest.hexdigest()[:12]
        return found

    return read


def require_versions(node: str, theirs: Versions, ours: Versions) -> None:
    """Raise UsageError, naming the node, where its versions are not those of this machine."""
    changed = [
        f"{name} {theirs.get(name, 'none')} instead of {version}"
        for name, version in ours.items()
        if theirs.get(name) != version
    ]
    if changed:
        raise UsageError(
            f"node {node} has {', '.join(changed)}, so that its results would not be those of "
            "this machine: install the same versions there, or start the command there"
        )
