"""docs/clusters.md as it is typed, on one machine: parts, devices, a bucket and a Dask cluster."""

from __future__ import annotations

import socket

import pytest

from .typed_pages import TypedPage, wait_until


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


@pytest.mark.slow
def test_clusters_page__every_block_as_typed_makes_the_recordings_whole(tmp_path):
    with TypedPage("clusters.md", tmp_path, "5000", "8786") as page:
        bucket, settings, train, one, two, look, run, scheduler, *workers, dask, embed = page.blocks
        assert len(workers) == 2
        page.start(bucket)
        wait_until(lambda: answers(page.ports["5000"]))
        page.type(settings)
        page.type(train)
        first = page.type(one)
        assert first.count("recorded part 1/2 of") == 2
        assert first.count("left for other parts") == 2
        assert page.type(two).count("recorded 200 images") == 2
        seen = page.type(look)
        assert seen.count("complete") == 2
        page.type(run)
        assert (tmp_path / "one" / "reports" / "cluster.html").exists()
        listed = page.type(look)
        assert listed.count("complete") == 3, "the run records the draws alone"
        page.start(scheduler)
        wait_until(lambda: answers(page.ports["8786"]))
        for worker in workers:
            page.start(worker)
        assert "recorded 200 images" in page.type(dask)
        assert "embedded two-block-cnn-w4-untrained" in page.type(embed)
        assert page.type(look).count("complete") == 4
