"""Objects in S3 that cannot be had: missing, wrong credentials, dead endpoints; and public ones."""

import logging
import os
import sys

import pytest

from shine import s3 as shine_s3
from shine import storage
from shine.errors import InputError
from shine.euclid import fits_files


def test_a_missing_object_or_bucket_is_named(store):
    with pytest.raises(InputError, match=rf"^{store.uri('none.fits')}: found no such object"):
        fits_files.list_hdus(store.uri("none.fits"))
    with pytest.raises(InputError, match=r"^s3://not-there/a.fits: found no such bucket"):
        storage.version("s3://not-there/a.fits")
    with pytest.raises(InputError, match=r"^s3://only-a-bucket: found a URI of another kind"):
        storage.version("s3://only-a-bucket")


WRONG_KEY = "wrongaccesskey000000"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "x" * 40}, r"access refused \(SignatureDoesNotMatch\)"),
        ({"AWS_ACCESS_KEY_ID": WRONG_KEY}, r"access refused \(InvalidAccessKeyId\)"),
        ({"AWS_SECRET_ACCESS_KEY": None}, r"unusable settings \(PartialCredentialsError\)"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, r"refused \(AccessDenied\)"),
        ({"AWS_PROFILE": "unknown"}, r"unusable settings \(ProfileNotFound\)"),
        ({"AWS_ENDPOINT_URL": "nonsense"}, r"unusable settings \(ValueError\)"),
    ],
    ids=["secret", "key", "half", "none", "profile", "endpoint"],
)
def test_wrong_credentials_are_an_error_that_tells_none(store, monkeypatch, changes, message):
    store.client().put_object(Bucket=store.bucket, Key="file", Body=b"content")
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    for name, value in changes.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message) as caught:
        storage.version(store.uri("file"))
    assert str(caught.value).startswith(f"{store.uri('file')}: ")
    assert "AWS_ACCESS_KEY_ID" in str(caught.value)
    for key in (store.access_key, secret, WRONG_KEY, "x" * 40):
        assert key not in str(caught.value)
    assert caught.value.__cause__ is None  # which would be printed with it


def test_credentials_are_looked_for_at_each_call(store, monkeypatch):
    store.client().put_object(Bucket=store.bucket, Key="file", Body=b"content")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
    with pytest.raises(InputError):
        storage.version(store.uri("file"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret_key)
    assert storage.version(store.uri("file"))[0] == len(b"content")


def test_credentials_come_from_profiles_too_as_they_are_now(store, monkeypatch, tmp_path):
    store.client().put_object(Bucket=store.bucket, Key="file", Body=b"content")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "survey")
    for secret in ("x" * 40, store.secret_key):
        (tmp_path / "credentials").write_text(
            f"[survey]\naws_access_key_id={store.access_key}\naws_secret_access_key={secret}\n"
        )
        if secret != store.secret_key:
            with pytest.raises(InputError, match="SignatureDoesNotMatch"):
                storage.version(store.uri("file"))
    assert storage.version(store.uri("file"))[0] == len(b"content")


def test_a_dead_endpoint_is_an_error(store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(
        InputError, match=r"no answer \(EndpointConnectionError\).*AWS_ENDPOINT_URL"
    ):
        storage.version(store.uri("file"))


def test_a_public_bucket_is_read_without_credentials(store, monkeypatch, caplog):
    store.client().put_object(Bucket=store.bucket, Key="file", Body=b"content")
    store.make_public()
    store.use(monkeypatch, store.anonymous_environment())
    with caplog.at_level(logging.INFO, "shine"):
        [content] = shine_s3.S3File.open(store.uri("file")).read([(0, 7)])
    assert content == b"content"
    assert "reading anonymously" in caplog.text


def test_without_boto3_the_extra_is_named(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(
        InputError, match=r"found no boto3.*pip install 'shine-constellation\[s3\]'"
    ):
        storage.version(store.uri("file"))
