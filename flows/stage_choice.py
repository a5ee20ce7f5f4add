"""Chooses how stages run: as Prefect flows, or as plain functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activarium.flows.prefect_settings import prepare_prefect

if TYPE_CHECKING:
    from pathlib import Path

    from activarium.flows.pipeline import Stages


def choose_stages(root: Path, *, verbose: bool, no_prefect: bool) -> Stages:
    """Return the five stages as plain functions or as Prefect flows.

    Prefect is imported only where it is used, after its settings are in place.
    """
    if no_prefect:
        from activarium.flows.pipeline import PlainStages

        return PlainStages()
    prepare_prefect(root, verbose=verbose)
    from activarium.flows.run_pipeline import FlowStages

    return FlowStages()
