"""Where the pieces run changes nothing, and a cluster that is not there is told."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import distributed
import pytest
from pydantic import ValidationError

from activarium.schemas.atlas import Atlas
from activarium.schemas.compare_config import CompareConfig
from activarium.schemas.config import AnalyseConfig, EmbedConfig
from activarium.schemas.errors import UserError
from activarium.tasks.analysis import analyse as analysis
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.scheduling import run_pieces


@pytest.fixture(scope="module")
def expected(tmp_path_factory, wide, write_recording, stored):
    """Return the tables of more than one block, made one after the other."""
    atlas = Atlas(tmp_path_factory.mktemp("expected"))
    analyse(atlas, write_recording(atlas, wide), config=AnalyseConfig(scheduler="synchronous"))
    return stored(atlas).tables()


@pytest.fixture
def address():
    """Return the address of a running Dask cluster."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0", protocol="tcp"
    ) as cluster:
        yield cluster.scheduler_address


def test_analyse__running_cluster_gives_the_same_tables(
    address, atlas, wide, write_recording, stored, expected
):
    recording = write_recording(atlas, wide)
    analyse(atlas, recording, config=AnalyseConfig(scheduler=address))
    for name, table in stored(atlas).tables().items():
        assert table.equals(expected[name]), name


@pytest.mark.parametrize(
    "scheduler", ["threads", pytest.param("processes", marks=pytest.mark.slow)]
)
def test_analyse__local_schedulers_give_the_same_tables(
    scheduler, atlas, wide, write_recording, stored, expected
):
    recording = write_recording(atlas, wide)
    analyse(atlas, recording, config=AnalyseConfig(scheduler=scheduler))
    for name, table in stored(atlas).tables().items():
        assert table.equals(expected[name]), name


@pytest.mark.parametrize("scheduler", ["gpu", "nothing://here", "tcp://", ""])
@pytest.mark.parametrize("settings", [AnalyseConfig, EmbedConfig, CompareConfig])
def test_scheduler__unknown_one_is_an_error_that_says_what_there_is(settings, scheduler):
    with pytest.raises(ValidationError, match=r"expected one of threads, processes|not empty"):
        settings(scheduler=scheduler)
    with pytest.raises(UserError, match=r"expected one of threads, processes|expected the address"):
        run_pieces(os.getpid, [()], scheduler=scheduler, advance=print)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ("tcp://127.0.0.1:9", "no Dask scheduler answers at tcp://127.0.0.1:9"),
    ],
)
def test_analyse__unreachable_cluster_is_an_error_that_names_it(
    scheduler, message, atlas, make_raw, write_recording, monkeypatch
):
    monkeypatch.setattr("activarium.tasks.cluster.CONNECT_SECONDS", 1)
    recording = write_recording(atlas, make_raw())
    with pytest.raises(UserError, match=message):
        analyse(atlas, recording, config=AnalyseConfig(scheduler=scheduler))


def test_analyse__cluster_without_workers_is_an_error(
    atlas, make_raw, write_recording, monkeypatch
):
    monkeypatch.setattr("activarium.tasks.cluster.WAIT_SECONDS", 1)
    recording = write_recording(atlas, make_raw())
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address=":0", protocol="tcp"
        ) as cluster,
        pytest.raises(UserError, match="has no workers"),
    ):
        analyse(atlas, recording, config=AnalyseConfig(scheduler=cluster.scheduler_address))


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_run_pieces__results_keep_their_order_and_each_advances_by_one(scheduler):
    steps = []
    found = run_pieces(divmod, [(7, 2), (9, 4)], scheduler=scheduler, advance=steps.append)
    assert found == [(3, 1), (2, 1)]
    assert steps == [1, 1]


def test_run_pieces__cluster_keeps_order_and_advances(address):
    steps = []
    pieces = [(n, 3) for n in range(20)]
    assert run_pieces(divmod, pieces, scheduler=address, advance=steps.append) == [
        divmod(*piece) for piece in pieces
    ]
    assert sum(steps) == 20


def test_run_pieces__fault_of_a_piece_is_raised(address):
    for scheduler in ("threads", address):
        with pytest.raises(ZeroDivisionError):
            run_pieces(divmod, [(1, 1), (1, 0)], scheduler=scheduler, advance=lambda _: None)


def test_run_pieces__what_a_killed_process_left_is_begun_again(tmp_path):
    died = tmp_path / "died"

    def die_once(number):  # within the test, so that other processes need not import it
        if number == 1 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    steps = []
    pieces = [(number,) for number in range(3)]
    found = run_pieces(die_once, pieces, scheduler="processes", advance=steps.append)
    assert found == [0, 1, 2]
    assert died.exists()
    assert steps == [1, 1, 1]


def test_run_pieces__processes_that_keep_dying_are_one_line():
    with pytest.raises(UserError, match=r"worker process died.*--scheduler synchronous") as caught:
        run_pieces(os._exit, [(9,)], scheduler="processes", advance=lambda _: None)
    assert "\n" not in str(caught.value)


def test_run_pieces__nothing_to_do_is_an_empty_list():
    assert run_pieces(divmod, [], scheduler="threads", advance=lambda _: None) == []


def test_analyse__hands_out_absolute_paths_to_workers_elsewhere(
    tmp_path, make_raw, write_recording, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    atlas, seen = Atlas(Path("atlas")), []

    def watched(function, arguments, **options):
        seen.extend(each for piece in arguments for each in piece if isinstance(each, Path))
        return run_pieces(function, arguments, **options)

    monkeypatch.setattr(analysis, "run_pieces", watched)
    recording = write_recording(atlas, make_raw())
    analyse(atlas, recording, config=AnalyseConfig(scheduler="synchronous"))
    assert seen
    assert all(path.is_absolute() for path in seen)
