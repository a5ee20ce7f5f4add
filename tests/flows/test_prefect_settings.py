"""What Prefect finds in the environment is checked before it is imported."""

from __future__ import annotations

import os

import pytest

from activarium.flows.prefect_settings import prepare_prefect
from activarium.schemas.errors import UserError


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PREFECT_API_URL", "nope", "PREFECT_API_URL: expected http://HOST:PORT/api, got 'nope'"),
        ("PREFECT_API_URL", "", "PREFECT_API_URL: expected http"),
        ("PREFECT_HOME", "/proc/none", "PREFECT_HOME: expected a folder that can be written"),
    ],
)
def test_prepare_prefect__what_cannot_be_meant_is_told(monkeypatch, tmp_path, name, value, message):
    monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with pytest.raises(UserError, match=message):
        prepare_prefect(tmp_path / "atlas", verbose=False)
    assert dict(os.environ) == before
    assert not (tmp_path / "atlas").exists()
