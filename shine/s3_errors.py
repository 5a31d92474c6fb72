"""What an object store refuses or fails to do, as errors that say what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shine.errors import InputError, explain

CREDENTIALS = (
    "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, in the environment, "
    "and profile and anonymous in data.s3 of the workflow's configuration."
)
ENDPOINT = "AWS_ENDPOINT_URL (or data.s3.endpoint_url)"
DENIALS = {
    "403",
    "AccessDenied",
    "AllAccessDisabled",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}


class EmptyObjectError(Exception):
    """Of an object without content no range can be had."""


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what goes wrong into an `InputError`, without the store's own words about it.

    Those may quote the request, and with it an access key.
    """
    try:
        import boto3  # noqa: F401
        from botocore import exceptions
    except ImportError as error:
        action = "Install it: pip install 'shine-constellation[s3]'."
        raise InputError(explain(uri, "no boto3", "the extra `s3`", action)) from error
    network = (
        exceptions.ConnectionError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
    )
    try:
        yield
    except exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        if code == "InvalidRange":
            raise EmptyObjectError from None
        raise _refusal(uri, code) from None
    except network as error:
        found, action = (
            f"no answer ({type(error).__name__})",
            f"Check the network and {ENDPOINT}.",
        )
        raise InputError(explain(uri, found, "an answer of the object store", action)) from None
    except (exceptions.BotoCoreError, ValueError) as error:
        found = f"unusable settings ({type(error).__name__})"
        action = f"{CREDENTIALS} Check {ENDPOINT}, too."
        raise InputError(explain(uri, found, "access to the object store", action)) from None


def _refusal(uri: str, code: str) -> InputError:
    """The error for an answer of the store, by its code."""
    if code == "NoSuchKey":
        action = "Fetch the file, or correct its URI in the manifest."
        return InputError(explain(uri, "no such object", "a readable object", action))
    if code == "NoSuchBucket":
        action = f"Correct the bucket's name or, if it is in another store, {ENDPOINT}."
        return InputError(explain(uri, "no such bucket", "a readable object", action))
    if code == "PreconditionFailed":
        found = "another object than a moment ago"
        return InputError(explain(uri, found, "one that does not change", "Run again."))
    if code in DENIALS:
        action = f"{CREDENTIALS} Without any, only public buckets can be read."
        return InputError(explain(uri, f"access refused ({code})", "permission to read it", action))
    action = "Look the code up in the object store's manual."
    return InputError(explain(uri, f"the error {code}", "an object", action))
