"""Endpoints by their names: resolved before anything is sent."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from fxhpc import Executor, errors
from fxhpc.client.names import endpoint_name
from fxhpc.ids import LOCAL_ENDPOINT

ENDPOINT = "0d6b2b0c-9e0a-4f0e-8a51-5c3a1d3f7a11"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "endpoints" / "midway"
    directory.mkdir(parents=True)
    record = {"endpoint": ENDPOINT, "name": "midway"}
    (directory / "endpoint.json").write_text(json.dumps(record))
    (tmp_path / "endpoints" / "broken").mkdir()
    (tmp_path / "endpoints" / "broken" / "endpoint.json").write_text("[]")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("local", LOCAL_ENDPOINT),
        (LOCAL_ENDPOINT.upper(), LOCAL_ENDPOINT),
        (uuid.UUID(ENDPOINT), ENDPOINT),
        (ENDPOINT.replace("-", ""), ENDPOINT),
        ("midway", ENDPOINT),
    ],
)
def test_what_names_an_endpoint(home: Path, given: str | uuid.UUID, meant: str) -> None:
    assert endpoint_name(given, home) == meant


@pytest.mark.parametrize(
    "given", ["nowhere", "broken", "..", "../endpoints/midway", "/", "a\0b", "\ud800", "x" * 9999]
)
def test_what_names_none(home: Path, given: str) -> None:
    with pytest.raises(errors.EndpointNotFound):
        endpoint_name(given, home)


def test_a_name_that_is_mistyped_is_told_with_the_one_that_was_meant(home: Path) -> None:
    with pytest.raises(errors.EndpointNotFound, match=r"Did you mean 'midway'\?.* has .*midway"):
        endpoint_name("midwya", home)
    with pytest.raises(errors.EndpointNotFound, match=r"has none.*fxhpc endpoint configure NAME"):
        endpoint_name("midway", home / "elsewhere")
    with pytest.raises(errors.EndpointNotFound, match="Without a home") as raised:
        endpoint_name("midway", None)
    assert raised.value.uuid == "midway"


def test_an_embedded_forwarder_has_local_alone() -> None:
    assert endpoint_name("local", None) == LOCAL_ENDPOINT
    for given in ("midway", ENDPOINT):
        with pytest.raises(errors.EndpointNotFound):
            endpoint_name(given, None)


def test_an_executor_for_none_is_not_made(home: Path) -> None:
    with pytest.raises(errors.EndpointNotFound, match="nowhere"):
        Executor(endpoint_id="nowhere", home=home)
