"""What an analysis takes: rows exactly, sizes about, and a line only where it is much."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from activarium.flows.progress_bars import progress_bars
from activarium.schemas.config import AnalyseConfig
from activarium.tasks.analysis import work_plan
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.analysis.work_plan import plan_line, plan_work
from activarium.tasks.progress import tell

CONFIG = AnalyseConfig(scheduler="synchronous", permutations=9)
WIDE = (50_000, [512] * 49, 1_000)


@pytest.mark.parametrize("top", [None, 0, 2])
def test_plan_work__rows_are_those_that_are_written(atlas, make_raw, write_recording, stored, top):
    raw = make_raw(images=60)
    floats = ("responses", "active", "logits", "pooled")
    raw = replace(
        raw,
        label=(np.arange(60) % 5).astype(np.int32),
        valid=np.ones(60, bool),
        **{name: np.nan_to_num(getattr(raw, name)) for name in floats},
    )
    recording = write_recording(atlas, raw)
    config = CONFIG.model_copy(update={"top_classes": top})
    analyse(atlas, recording, config=config)
    plan = plan_work(60, [each.units for each in recording.layers], 5, config)
    assert plan.class_rows == stored(atlas).table("unit_classes").num_rows
    assert plan.exemplars == stored(atlas).table("exemplars").num_rows
    assert not plan.is_much


def test_plan_work__a_thousand_classes_of_a_wide_model_are_much(monkeypatch):
    monkeypatch.setattr(work_plan.dask.system, "CPU_COUNT", 2)
    plan = plan_work(*WIDE, AnalyseConfig())
    assert plan.is_much
    assert 2e9 < plan.memory < 4e9
    less = plan_work(*WIDE, AnalyseConfig(top_classes=10))
    line = plan_line("wide", plan, less, "threads")
    assert line.startswith(
        "wide: 25,088,000 rows of unit_classes and 150,929,408 of exemplars, about 3.8 GB"
    )
    assert "minutes on 2 cores" in line
    assert line.endswith("top_classes: 10 (analyse --top-classes 10) keeps less than 0.1 GB")
    away = plan_line("wide", plan, less, "tcp://host:8786")
    assert "of each worker" in away
    assert "minutes" not in away


def test_plan_work__many_images_take_memory_and_no_advice_on_classes():
    plan = plan_work(1_000_000, [250] * 20, 10, AnalyseConfig())
    assert plan.is_much
    assert "top_classes" not in plan_line("many", plan, plan, "threads")


def test_analyse__much_is_told_before_the_work(atlas, make_raw, write_recording, monkeypatch):
    told = []

    @contextmanager
    def progress(description, total):
        told.append((description, total))
        yield lambda _: None

    recording = write_recording(atlas, make_raw())
    analyse(atlas, recording, config=CONFIG, progress=progress)
    assert all(total for _, total in told)
    monkeypatch.setattr(work_plan, "MUCH_TABLES", 1)
    again = CONFIG.model_copy(update={"fdr": 0.02})
    told.clear()
    analyse(atlas, recording, config=again, progress=progress)
    (line, total), *others = told
    assert total == 0
    assert line.startswith("toy: 100 rows of unit_classes and ")
    assert others


def test_tell__a_line_stays_where_bars_are_shown(capsys):
    from rich.console import Console

    for is_terminal in (True, False):
        console = Console(force_terminal=is_terminal, stderr=False)
        with progress_bars(console):
            from activarium.flows.progress_bars import current_progress

            tell(current_progress(), "[a] line: 1.0 GB")
        assert "[a] line: 1.0 GB\n" in capsys.readouterr().out


def test_plan_work__of_nothing_is_not_much():
    assert not plan_work(0, [], 0, CONFIG).is_much
