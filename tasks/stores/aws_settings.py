"""Where an S3 client finds its address and credentials: the environment, or an AWS profile.

The same variables and files that the AWS command line reads. Nothing of it is ever written down or
told: what is returned here goes to the client and nowhere else.
"""

from __future__ import annotations

import configparser
import os
from pathlib import Path

from activarium.schemas.errors import UserError

_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_UNSUPPORTED = ("role_arn", "sso_session", "sso_start_url", "credential_process")


def client_settings() -> dict[str, str]:
    """Return endpoint, region and credentials as the S3 client's configuration.

    Credentials of the environment come first, then those of the profile (`AWS_PROFILE`, or
    `default`); without either the client asks what a cloud machine or a container provides.

    Raises
    ------
    UserError
        If the profile that is asked for is not there, or is of a kind that is not supported.
    """
    profile = _profile()
    environment = os.environ
    endpoint = (
        environment.get("AWS_ENDPOINT_URL_S3")
        or environment.get("AWS_ENDPOINT_URL")
        or environment.get("AWS_ENDPOINT")
        or profile.get("endpoint_url")
    )
    region = (
        environment.get("AWS_REGION")
        or environment.get("AWS_DEFAULT_REGION")
        or profile.get("region")
        or "us-east-1"
    )
    settings = {"region": region} | ({"endpoint": endpoint} if endpoint else {})
    if "AWS_ACCESS_KEY_ID" in environment:
        return settings  # The client reads these itself.
    return settings | {key: profile[key] for key in _KEYS if key in profile}


def _profile() -> dict[str, str]:
    """Return the settings of the profile from the credentials file and the configuration file."""
    asked = os.environ.get("AWS_PROFILE")
    name = asked or "default"
    found: dict[str, str] = {}
    section = name if name == "default" else f"profile {name}"
    for variable, file, key in (
        ("AWS_CONFIG_FILE", "config", section),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name),
    ):
        path = Path(os.environ.get(variable) or Path.home() / ".aws" / file).expanduser()
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(path.read_text("utf-8"))
        except OSError:
            continue
        except (configparser.Error, UnicodeDecodeError):
            # The parser's message would show lines of the file.
            raise UserError(f"{path} cannot be read as an AWS configuration file") from None
        if parser.has_section(key):
            found |= dict(parser.items(key))
    if asked and not found:
        raise UserError(f"AWS_PROFILE: there is no profile {asked!r} in the AWS configuration")
    other = next((key for key in _UNSUPPORTED if key in found), None)
    if asked and other and _KEYS[0] not in found and "AWS_ACCESS_KEY_ID" not in os.environ:
        raise UserError(
            f"AWS_PROFILE {asked!r} works by {other}, which is not supported: put its credentials "
            "into the environment, as `aws configure export-credentials --format env` prints them"
        )
    return found
