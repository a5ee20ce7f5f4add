"""The S3 client's settings come from where the AWS command line finds its own."""

from __future__ import annotations

import os

import pytest

from activarium.schemas.errors import UserError
from activarium.tasks.stores.aws_settings import client_settings

CONFIG = """
[default]
region = eu-west-1
[profile lab]
region = eu-north-1
endpoint_url = https://minio.lab
[profile sso]
sso_session = company
[profile keyless]
region = eu-west-3
"""
CREDENTIALS = """
[default]
aws_access_key_id = default-key
aws_secret_access_key = default-secret
[lab]
aws_access_key_id = lab-key
aws_secret_access_key = lab-secret
aws_session_token = lab-token
"""


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "config").write_text(CONFIG)
    (folder / "credentials").write_text(CREDENTIALS)
    return folder


def test_settings__default_profile_where_nothing_is_asked():
    assert client_settings() == {
        "region": "eu-west-1",
        "aws_access_key_id": "default-key",
        "aws_secret_access_key": "default-secret",
    }


def test_settings__of_a_profile(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert client_settings() == {
        "region": "eu-north-1",
        "endpoint": "https://minio.lab",
        "aws_access_key_id": "lab-key",
        "aws_secret_access_key": "lab-secret",
        "aws_session_token": "lab-token",
    }


def test_settings__environment_comes_before_the_profile(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "lab")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "own")
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://two")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://one")
    assert client_settings() == {"region": "us-west-2", "endpoint": "http://one"}


def test_settings__files_may_lie_elsewhere(files, monkeypatch):
    (files / "config").rename(files / "a")
    (files / "credentials").rename(files / "b")
    assert client_settings() == {"region": "us-east-1"}
    monkeypatch.setenv("AWS_CONFIG_FILE", str(files / "a"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(files / "b"))
    assert client_settings()["region"] == "eu-west-1"
    assert client_settings()["aws_access_key_id"] == "default-key"


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("nobody", "there is no profile 'nobody'"),
        ("sso", "'sso' works by sso_session, which is not supported: put its credentials"),
    ],
)
def test_settings__profile_that_cannot_be_used_is_refused(monkeypatch, profile, message):
    monkeypatch.setenv("AWS_PROFILE", profile)
    with pytest.raises(UserError, match=message):
        client_settings()


def test_settings__profile_without_keys_leaves_them_to_the_machine(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "keyless")
    assert client_settings() == {"region": "eu-west-3"}


def test_settings__torn_file_is_named_and_not_shown(files):
    (files / "credentials").write_text("[default\naws_secret_access_key = shhh")
    with pytest.raises(UserError, match="credentials cannot be read as an AWS") as caught:
        client_settings()
    assert "shhh" not in str(caught.value)
    assert caught.value.__suppress_context__
