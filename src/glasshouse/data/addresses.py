"""Addresses of sources that are not on a local disk: how they are written and named."""

import re
from itertools import product
from pathlib import Path, PurePosixPath

from glasshouse.errors import UsageError

# At least two letters: C:// is a drive of Windows.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
# A Path turns two slashes into one.
_LOST_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[/\\](?![/\\])")
_WEB = ("http", "https")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_BRACES = re.compile(r"\{([^{}]*)\}")
# Between the addresses of a chain, such as zip://images.zip::s3://bucket/all.zip.
_CHAIN = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*://)")
# A key in a store may have a question mark, but not by chance one of these names after it.
_SIGNED = re.compile(r"[?&][\w.%-]*(?:sig|signature|token|credential|secret|password)=", re.I)
_MOST_SHARDS = 100_000


def is_address(source: object) -> bool:
    """Whether a source is written as an address, such as s3://bucket/folder."""
    return isinstance(source, str) and _ADDRESS.fullmatch(source) is not None


def is_damaged_address(path: Path) -> bool:
    """Whether a path was made of an address, which it can no longer be."""
    return _LOST_SLASH.match(str(path)) is not None


def protocol_of(address: str) -> str:
    """What comes before ://, in lower case."""
    return address.partition("://")[0].lower()


def normal_address(address: str) -> str:
    """An address as it is recorded: without a slash at its end, and the protocol in lower case.

    Raises UsageError for credentials in it, which it does not repeat: addresses become part of
    runs, logs and messages.
    """
    for link in _CHAIN.split(address):
        _require_no_secret(link)
    protocol, rest = protocol_of(address), address.partition("://")[2]
    authority, _, path = rest.partition("/")
    if protocol in ("file", "local"):
        raise UsageError(f"{address}: name a local folder or file by its path, without {protocol}:")
    if not authority and not path and protocol != "memory":
        raise UsageError(f"{address} has nothing after ://: expected {protocol}://PLACE/FOLDER")
    return f"{protocol}://{rest.rstrip('/')}"


def _require_no_secret(address: str) -> None:
    protocol, rest = protocol_of(address), address.partition("://")[2]
    user, at, _ = rest.partition("/")[0].rpartition("@")
    # Azure writes CONTAINER@ACCOUNT, and Hugging Face OWNER/NAME@REVISION.
    has_secret = bool(at) and (":" in user or protocol in (*_WEB, "ftp"))
    has_query = (protocol in _WEB and "?" in rest) or _SIGNED.search(rest) is not None
    if has_secret or has_query:
        found = "a user name or password" if has_secret else "a query, which may be a signature"
        raise UsageError(
            f"the {protocol}:// address holds {found}, and would be recorded in the run. Leave it "
            "out: credentials come from the environment, as those of other tools do."
        )


def expanded(pattern: str) -> list[str]:
    """The names that {000..099} and {train,test} in a pattern stand for, in order."""
    pieces = _BRACES.split(pattern)
    # Every second piece was in braces.
    choices = [_choices(piece) if n % 2 else [piece] for n, piece in enumerate(pieces)]
    total = 1
    for each in choices:
        total *= len(each)
    if total > _MOST_SHARDS:
        raise UsageError(f"{pattern} stands for {total:,} files: expected at most {_MOST_SHARDS:,}")
    return ["".join(each) for each in product(*choices)]


def has_braces(source: str) -> bool:
    """Whether a source is a pattern of shards."""
    return _BRACES.search(source) is not None


def name_of_address(address: str) -> str:
    """A short name for what is made from an address: that of its folder or file."""
    path = PurePosixPath(address.split("://", 1)[-1])
    # Of shards, the folder says more than the numbers.
    last = path.parent if has_braces(path.name) else path
    plain = last.stem if last.suffix in (".parquet", ".tar") else last.name
    return re.sub(r"[^\w.-]+", "-", plain).strip("-.") or "images"


def _choices(inner: str) -> list[str]:
    found = _RANGE.fullmatch(inner)
    if found is None:
        return inner.split(",")
    first, last = int(found[1]), int(found[2])
    if not 0 <= last - first < _MOST_SHARDS:
        raise UsageError(
            f"{{{inner}}}: expected the first number, two dots and a number that is no smaller, "
            f"as in {{000..099}}, of at most {_MOST_SHARDS:,} files"
        )
    # As shells do: where either end begins with a zero, all are as wide as the wider one.
    is_padded = any(len(end) > 1 and end.startswith("0") for end in found.groups())
    width = max(map(len, found.groups())) if is_padded else 1
    return [f"{number:0{width}d}" for number in range(first, last + 1)]
