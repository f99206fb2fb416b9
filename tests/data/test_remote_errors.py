from types import SimpleNamespace

import pytest

from glasshouse.data.remote_errors import (
    described_failure,
    is_permanent,
    missing_package,
    without_secrets,
)
from glasshouse.errors import DataError, UsageError

ADDRESS = "s3://bucket/photos"


class NoCredentialsError(Exception):
    """Named as that of botocore."""


class WithStatus(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"{status} for https://host/x?sig=hushhushhush")
        self.status = status


def test_what_another_attempt_would_not_change_is_permanent() -> None:
    for error in (
        FileNotFoundError("x"),
        PermissionError("x"),
        NoCredentialsError("x"),
        ImportError("x"),
        WithStatus(403),
        WithStatus(404),
    ):
        assert is_permanent(error), error
    for transient in (
        OSError(5, "x"),
        TimeoutError(),
        ConnectionResetError(),
        EOFError(),
        WithStatus(429),
        WithStatus(408),
        WithStatus(503),
    ):
        assert not is_permanent(transient), transient


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (FileNotFoundError("no bucket"), DataError, "does not exist: no bucket"),
        (PermissionError("Access Denied"), DataError, "access was refused: Access Denied"),
        (NoCredentialsError("unable to locate"), DataError, "AWS_ACCESS_KEY_ID"),
        (ImportError("s3fs"), UsageError, r"pip install 'glasshouse\[remote\]'"),
        (OSError(5, "out of order"), DataError, "continues from it"),
        (WithStatus(401), DataError, "access was refused"),
        (WithStatus(403), DataError, "access was refused"),
        (WithStatus(404), DataError, "does not exist"),
        (WithStatus(410), DataError, "does not exist"),
        (WithStatus(402), DataError, "continues from it"),
    ],
)
def test_errors_say_what_happened_and_what_to_do(
    error: Exception, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        raise described_failure(error, ADDRESS, "s3")


def test_other_packages_are_named() -> None:
    for protocol, package in {"gs": "gcsfs", "abfs": "adlfs", "hf": "huggingface_hub"}.items():
        found = described_failure(ImportError("x"), f"{protocol}://x", protocol)
        assert f"pip install {package}" in str(found)


def test_no_secret_is_in_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush/hush+hush")
    monkeypatch.setenv("HF_TOKEN", "hf_hushhush")
    text = without_secrets(
        "GET https://user:hushpass@host/a?X-Amz-Signature=hushsig failed with hush/hush+hush and "
        "hf_hushhush; Authorization: hushbearer"
    )
    assert "hush" not in text
    assert "https://***@host/a?***" in text


def test_an_error_carries_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "hushhushhush")
    found = described_failure(OSError("the key hushhushhush is not valid"), "abfs://x", "abfs")
    assert "hushhushhush" not in str(found)
    assert "hushhushhush" not in str(described_failure(WithStatus(500), "https://host/x", "https"))


class FromResponse(Exception):
    """As those of requests and httpx."""

    def __init__(self, status: object, code: int) -> None:
        super().__init__("said so")
        self.status, self.response = status, SimpleNamespace(status_code=code)


def test_a_status_tells_what_is_permanent() -> None:
    permanent = (400, 402, 499)
    transient = (399, 408, 425, 429, 500)
    assert [is_permanent(WithStatus(n)) for n in permanent] == [True] * 3
    assert [is_permanent(WithStatus(n)) for n in transient] == [False] * 5
    assert is_permanent(FromResponse("failed", 404)) and not is_permanent(FromResponse(None, 503))
    assert not is_permanent(FromResponse(500, 404)), "its own status comes first"
    for error in (IsADirectoryError(), TypeError(), AttributeError(), NotImplementedError(),
                  DataError("x")):  # fmt: skip
        assert is_permanent(error), error


def test_failures_are_described_in_these_words() -> None:
    def said(error: Exception, protocol: str = "s3") -> str:
        return str(described_failure(error, "s3://x", protocol))

    amazon = (
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a public bucket, set "
        "FSSPEC_S3='{\"anon\": true}'"
    )
    missing = "Check its spelling, and that it is not private."
    kept = "What was fetched is kept, and the next attempt continues from it."
    assert said(NoCredentialsError()) == f"s3://x: no usable credentials were found. Set {amazon}."
    assert said(FileNotFoundError(2, "No such key.")) == (
        f"s3://x does not exist: No such key. {missing}"
    )
    assert said(FromResponse(None, 410)) == f"s3://x does not exist: said so. {missing}"
    assert said(FromResponse(None, 401), "oss") == (
        "s3://x: access was refused: said so. Use credentials that may list and read it: set what "
        "this store expects in the environment."
    )
    assert said(TimeoutError()) == f"cannot read s3://x: TimeoutError. {kept}"
    assert said(ValueError("  first. .\nsecond")) == f"cannot read s3://x: first. {kept}"
    assert said(OSError(5, "busy", "file")) == f"cannot read s3://x: busy. {kept}"
    assert said(ValueError("x" * 201)) == f"cannot read s3://x: {'x' * 200}. {kept}"
    own = DataError("own words")
    assert described_failure(own, "s3://x", "s3") is own


def test_what_provides_a_protocol_is_named() -> None:
    extra = "pip install 'glasshouse[remote]'"
    expected = {
        "s3": f"s3fs: {extra}",
        "http": f"aiohttp: {extra}",
        "hdfs": "pyarrow: pip install pyarrow",
        "az": "adlfs: pip install adlfs",
    }
    for protocol, words in expected.items():
        assert str(missing_package("ADDRESS", protocol)) == f"ADDRESS needs {words}"
    assert str(missing_package("oss://x", "oss")) == "oss://x needs the fsspec package for oss"


def test_only_values_of_secret_variables_that_are_long_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {"A_TOKEN": "12345678", "B_TOKEN": "abcdefg", "PLAIN_NAME": "harmless"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert without_secrets("12345678 abcdefg harmless") == "*** abcdefg harmless"
    assert without_secrets("s3://a@b/c?d e") == "s3://***@b/c?*** e"
    assert without_secrets("Bearer: x y") == "Bearer *** y"
    assert without_secrets("/a?sv=1&sig=x&b=2 token='y'") == "/a?sv=1&sig=***&b=2 token='y'"
    assert without_secrets("zip://a::s3://k:s@b/c?d") == "zip://a::s3://***@b/c?***"
