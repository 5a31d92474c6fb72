"""Settings of S3 from the configuration or the environment, against a real server."""

import os

import pytest

from shine.errors import ConfigurationError, InputError
from shine.s3 import S3File, list_objects
from shine.s3_settings import VARIABLES, S3Settings, set_aside
from tests.servers.s3 import S3Server

CONTENT = b"content"


@pytest.fixture
def store(s3, monkeypatch) -> S3Server:
    """The server with one object, its credentials in the environment, and no settings."""
    s3.use(monkeypatch)
    for variable in VARIABLES.values():
        monkeypatch.setenv(variable, "")  # what a test exports is undone after it
    s3.client().put_object(Bucket=s3.bucket, Key="file", Body=CONTENT)
    return s3


def content_of(store: S3Server) -> bytes:
    [content] = S3File.open(store.uri("file")).read([(0, 100)])
    return content


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"profile": "survey", "endpoint_url": "https://host:9000", "anonymous": True},
        {"anonymous": False, "cache_folder": "a folder", "cache_gb": 0.5},
    ],
)
def test_settings_travel_in_the_environment(store, given):
    settings = S3Settings(**given)
    assert set(settings.environment()) == {VARIABLES[name] for name in given}
    assert settings.export() == settings == S3Settings.from_environment()


def test_what_is_not_given_is_left_to_the_environment(store, monkeypatch):
    monkeypatch.setenv("SHINE_S3_CACHE_GB", "7")
    monkeypatch.setenv("SHINE_S3_ANONYMOUS", "yes")
    assert S3Settings(profile=None, anonymous=False).export() == S3Settings(cache_gb=7)


def test_a_public_bucket_is_read_whatever_credentials_there_are(store, monkeypatch):
    store.make_public()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
    with pytest.raises(InputError, match=r"SignatureDoesNotMatch.*anonymous"):
        content_of(store)
    S3Settings(anonymous=True).export()
    assert content_of(store) == CONTENT
    assert [entry.uri for entry in list_objects(store.uri("f"))] == [store.uri("file")]


def test_a_private_bucket_is_not_read_anonymously(store):
    S3Settings(anonymous=True).export()
    with pytest.raises(InputError, match=r"access refused \(AccessDenied\).*anonymous in data.s3"):
        content_of(store)
    with set_aside():
        assert content_of(store) == CONTENT
    assert S3Settings.from_environment().anonymous


def test_a_named_profile_goes_before_keys_in_the_environment(store, monkeypatch, tmp_path):
    keys = f"aws_access_key_id={store.access_key}\naws_secret_access_key={store.secret_key}\n"
    (tmp_path / "credentials").write_text(f"[survey]\n{keys}")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
    S3Settings(profile="survey").export()
    assert content_of(store) == CONTENT
    S3Settings(profile="unknown").export()
    with pytest.raises(InputError, match=r"ProfileNotFound.*profile and anonymous in data.s3"):
        content_of(store)


def test_a_given_endpoint_goes_before_that_of_the_environment(store, monkeypatch):
    for variable in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(InputError, match=r"EndpointConnectionError.*data\.s3\.endpoint_url"):
        content_of(store)
    S3Settings(endpoint_url=store.endpoint).export()
    assert content_of(store) == CONTENT
    assert os.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"  # for whoever else asks


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SHINE_S3_ANONYMOUS", "perhaps", r"boolean.* \(found 'perhaps'\)"),
        ("SHINE_S3_CACHE_GB", "-1", r"greater than 0 \(found '-1'\)"),
        ("SHINE_S3_CACHE_GB", "inf", r"finite number \(found 'inf'\)"),
        ("SHINE_S3_CACHE_GB", "much", r"number.* \(found 'much'\)"),
        ("SHINE_S3_ENDPOINT_URL", "host:9000", r"pattern.* \(found 'host:9000'\)"),
    ],
)
def test_a_bad_variable_is_named_with_what_was_found(store, monkeypatch, variable, value, message):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=f"^{variable}: .*{message}"):
        content_of(store)
    with pytest.raises(ConfigurationError, match=variable):
        S3Settings().export()


@pytest.mark.parametrize("url", ["https://me:secret@host", "me:secret@host", "http://h/?k=secret"])
def test_an_endpoint_with_a_secret_is_refused_and_not_repeated(store, monkeypatch, url):
    monkeypatch.setenv("SHINE_S3_ENDPOINT_URL", url)
    with pytest.raises(ConfigurationError, match=r"SHINE_S3_ENDPOINT_URL: .*@ or \?") as caught:
        content_of(store)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(ValueError, match="endpoint_url") as caught:
        S3Settings(endpoint_url=url)
    assert "secret" not in str(caught.value).replace("type=secret", "")
