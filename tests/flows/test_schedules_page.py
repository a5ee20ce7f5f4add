"""docs/schedules.md as it is typed: from nothing to a run that a schedule started."""

from __future__ import annotations

import pytest

from .conftest import is_healthy
from .typed_pages import TypedPage, wait_until


@pytest.mark.slow
def test_schedules_page__every_block_as_typed_ends_in_a_run_that_cron_started(tmp_path):
    with TypedPage("schedules.md", tmp_path, "4200") as page:
        server, deployment, worker, look = page.blocks
        page.start(server)
        wait_until(lambda: is_healthy(f"http://127.0.0.1:{page.ports['4200']}/api"))
        page.type(deployment)
        page.start(worker)
        wait_until((tmp_path / "nightly" / "atlas" / "reports" / "digits.html").exists)
        page.folder = tmp_path / "nightly"  # where the second terminal is
        wait_until(lambda: "run digits" in page.type(look))
        assert "complete" in page.type(look)
