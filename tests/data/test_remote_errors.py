import pytest

from glasshouse.data.remote_errors import described_failure, is_permanent, without_secrets
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
