"""What went wrong with a store that is not on a local disk, in words and without secrets."""

import os
import re

from glasshouse.errors import DataError, GlasshouseError, UsageError

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|SAS|CONNECTION_STRING", re.IGNORECASE)
# Shorter values, such as "true", are part of ordinary words.
_SHORTEST_SECRET = 8
_USER = re.compile(r"(://)[^/@\s]*@")
_QUERY = re.compile(r"(\w://[^\s?'\"]*)\?[^\s'\")]*")
_HEADER = re.compile(r"(?i)\b(authorization|x-amz-[\w-]+|bearer)\b[=:\s]+\S+")
_PARAMETER = re.compile(
    r"(?i)([\w.-]*(?:sig|signature|token|credential|secret|password))=[^\s&'\")]+"
)
_SHOWN = 200

# What provides a protocol, where Python packages beyond fsspec do.
_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs",
    "az": "adlfs", "hf": "huggingface_hub", "http": "aiohttp", "https": "aiohttp",
    "hdfs": "pyarrow",
}  # fmt: skip
_IN_EXTRA = ("s3fs", "aiohttp")
_AZURE = "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
_GOOGLE = "GOOGLE_APPLICATION_CREDENTIALS, or run gcloud auth application-default login"
_AMAZON = (
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a public bucket, set "
    "FSSPEC_S3='{\"anon\": true}'"
)
_ENVIRONMENT = {
    "s3": _AMAZON, "s3a": _AMAZON, "gs": _GOOGLE, "gcs": _GOOGLE, "abfs": _AZURE, "abfss": _AZURE,
    "az": _AZURE, "hf": "HF_TOKEN, or run hf auth login",
}  # fmt: skip
# By name: the classes belong to packages that may not be installed.
_NO_CREDENTIALS = {
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound",
    "TokenRetrievalError", "NoAuthTokenError", "DefaultCredentialsError", "RefreshError",
    "ClientAuthenticationError", "LocalTokenNotFoundError",
}  # fmt: skip
_PERMANENT = (
    FileNotFoundError, PermissionError, IsADirectoryError, ImportError, GlasshouseError,
    # Of a mistake in a program; what a connection raises is an OSError, or of a class of its own.
    TypeError, AttributeError, NotImplementedError,
)  # fmt: skip
_REFUSED, _MISSING = (401, 403), (404, 410)


def is_permanent(error: Exception) -> bool:
    """Whether another attempt would fail in the same way."""
    if isinstance(error, _PERMANENT) or type(error).__name__ in _NO_CREDENTIALS:
        return True
    status = _status(error)
    return status is not None and 400 <= status < 500 and status not in (408, 425, 429)


def described_failure(error: Exception, address: str, protocol: str) -> GlasshouseError:
    """The error to raise for what happened at an address; its text has no credentials."""
    status = _status(error)
    if isinstance(error, GlasshouseError):
        return error
    if isinstance(error, ImportError):
        return missing_package(address, protocol)
    where = _ENVIRONMENT.get(protocol, "what this store expects in the environment")
    if type(error).__name__ in _NO_CREDENTIALS:
        return DataError(f"{address}: no usable credentials were found. Set {where}.")
    if isinstance(error, FileNotFoundError) or status in _MISSING:
        return DataError(
            f"{address} does not exist: {_reason(error)}. Check its spelling, and that it is not "
            "private."
        )
    if isinstance(error, PermissionError) or status in _REFUSED:
        return DataError(
            f"{address}: access was refused: {_reason(error)}. Use credentials that may list and "
            f"read it: set {where}."
        )
    return DataError(
        f"cannot read {address}: {_reason(error)}. What was fetched is kept, and the next attempt "
        "continues from it."
    )


def missing_package(address: str, protocol: str) -> UsageError:
    """The error for a protocol whose package is not installed."""
    package = _PACKAGES.get(protocol)
    if package is None:
        return UsageError(f"{address} needs the fsspec package for {protocol}")
    install = "'glasshouse[remote]'" if package in _IN_EXTRA else package
    return UsageError(f"{address} needs {package}: pip install {install}")


def without_secrets(text: str) -> str:
    """A text with the values of secret variables, users and queries of addresses left out."""
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "***")
    text = _HEADER.sub(r"\1 ***", _USER.sub(r"\1***@", text))
    return _PARAMETER.sub(r"\1=***", _QUERY.sub(r"\1?***", text))


def _reason(error: Exception) -> str:
    own = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = next(iter(str(own).strip().splitlines()), "")
    shown = without_secrets(line)[:_SHOWN].rstrip(". ")
    return shown or type(error).__name__


def _status(error: Exception) -> int | None:
    """The HTTP status of an error of aiohttp, requests or httpx."""
    found = getattr(error, "status", None)
    if not isinstance(found, int):
        found = getattr(getattr(error, "response", None), "status_code", None)
    return found if isinstance(found, int) else None
