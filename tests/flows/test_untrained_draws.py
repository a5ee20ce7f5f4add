"""Runs record untrained networks beside the model, in parts too, and hold the model against them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from activarium.flows.pipeline import PartReceipt, run_stages
from activarium.flows.stages import PlainStages
from activarium.schemas.atlas import Atlas
from activarium.schemas.config import RecordCall, RunConfig
from activarium.schemas.receipts import ReportReceipt, TablesReceipt
from activarium.tasks.stores.recording import open_recording

from .conftest import TINY

CONFIG = RunConfig.model_validate(
    {
        **TINY,
        "model": {"architecture": "two-block-cnn", "width": 4, "weights": "restart.safetensors"},
        "training": None,
    }
)


@dataclass(frozen=True)
class Order(PlainStages):
    """Records as ever, and notes what is analysed beside what, without doing it."""

    analysed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)

    def analyse(self, recording, config, *_):
        self.analysed[recording] = config.controls
        return TablesReceipt(recording=recording, files=(), made=True)

    def embed(self, recording, *_):
        return TablesReceipt(recording=recording, files=(), made=True)

    def report(self, recordings, *_):
        self.shown.extend(recordings)
        return ReportReceipt(path=Path("page.html"), recordings=tuple(recordings), made=True)


@pytest.fixture
def config(tmp_path):
    """Return a run of weights that are there."""
    import torch
    from safetensors.torch import save_file

    from activarium.tasks.models.models import build_model

    model = build_model(CONFIG.model, classes=10, colours=1, size=(16, 16))
    with torch.no_grad():
        model.conv1.weight += 0.1
    path = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), path)
    return CONFIG.model_copy(
        update={"model": CONFIG.model.model_copy(update={"weights": str(path)})}
    )


def test_run__records_draws_beside_the_model_and_one_network_as_a_picture(config, tmp_path):
    order = Order()
    receipt = run_stages(config, tmp_path / "atlas", order)
    main, one, draws = (each.recording for each in receipt.recordings)
    assert "-untrained-digits-" in one
    found = open_recording(Atlas(tmp_path / "atlas"), draws, draws=True)
    assert (found.draws, found.images_per_draw) == (3, 40)
    assert order.shown == [main, one]
    assert order.analysed == {one: ("shuffle",), main: ("shuffle", draws)}


def test_run__parts_share_the_draws_and_the_last_goes_on(config, tmp_path):
    order = Order()
    first = run_stages(config, tmp_path / "atlas", order, call=RecordCall(part="1/2"))
    assert isinstance(first, PartReceipt)
    assert [each.shards_left for each in first.recordings][2] == 1
    assert not order.analysed
    second = run_stages(config, tmp_path / "atlas", order, call=RecordCall(part="2/2"))
    assert not isinstance(second, PartReceipt)
    assert len(order.analysed) == 2


def test_run__without_the_control_records_no_untrained_network(config, tmp_path):
    shuffled = config.model_copy(update={"controls": ("shuffle",)})
    receipt = run_stages(shuffled, tmp_path / "atlas", Order())
    assert len(receipt.recordings) == 1
