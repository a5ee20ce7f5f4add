"""Spreads the shards of a recording over the workers of a Dask cluster."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from distributed.comm.addressing import get_address_host

from activarium.tasks.cluster import cluster, finished
from activarium.tasks.progress import silent
from activarium.tasks.recording.cores import usable_cores
from activarium.tasks.recording.share import Share
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.recording_store import read_attributes

if TYPE_CHECKING:
    from distributed import Client

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import RunConfig
    from activarium.schemas.receipts import CheckpointReceipt, RecordingReceipt
    from activarium.tasks.progress import Progress

GROUPS_PER_WORKER = 4
"""Groups of shards per worker: what is lost with a dying worker, and how even the end is."""

_ONE_AT_A_TIME = threading.Lock()
"""A worker with several threads has one model, and one device to run it on."""


@dataclass(frozen=True)
class Piece:
    """What a worker is to record; small, whatever the images and the model are."""

    atlas: Atlas
    config: RunConfig
    checkpoint: CheckpointReceipt
    workers: int
    workers_per_host: int
    positions: tuple[int, ...]
    repair: bool = False


def record_piece(piece: Piece) -> RecordingReceipt:
    """Record some shards, on a worker, which loads model and images itself."""
    from activarium.tasks.recording.checkpoints import record_checkpoint

    share = Share(
        processes=piece.workers_per_host,
        workers=piece.workers,
        positions=lambda shards: (each for each in piece.positions if each < shards),
    )
    # Dask's nanny sets every library to one thread, whatever the machine has.
    threads = piece.config.record.threads or max(1, usable_cores() // piece.workers_per_host)
    record = piece.config.record.model_copy(update={"threads": threads, "devices": None})
    config = piece.config.model_copy(update={"record": record})
    with _ONE_AT_A_TIME:
        return record_checkpoint(
            piece.atlas, config, piece.checkpoint, share=share, repair=piece.repair
        )


def record_on_cluster(  # noqa: PLR0913 - a whole stage
    atlas: Atlas,
    config: RunConfig,
    checkpoint: CheckpointReceipt,
    *,
    address: str,
    repair: bool = False,
    progress: Progress = silent,
) -> RecordingReceipt:
    """Record on the workers of a running Dask cluster, which see the atlas under the same path.

    Parameters
    ----------
    atlas, config, checkpoint
        As for `record_checkpoint`.
    address
        Of the scheduler, such as tcp://host:8786.
    repair
        Check everything that is stored first, and make anew what is damaged.
    progress
        Shows how far it is.

    Raises
    ------
    UserError
        If the scheduler does not answer, has no workers, or loses them all or one after the other.
    """
    began = time.perf_counter()
    with cluster(address) as client:
        hosts = Counter(get_address_host(worker) for worker in client.nthreads())
        piece = Piece(
            _seen_from_everywhere(atlas),
            config,
            checkpoint,
            workers=hosts.total(),
            workers_per_host=max(hosts.values()),
            positions=(),
            repair=repair,
        )
        first = [client.submit(record_piece, piece, pure=False)]
        ((_, begun),) = finished(client, first, address)
        left = begun.shards_left
        made = _record_groups(client, address, piece, begun, progress) if left else begun
    return made.model_copy(update={"seconds": time.perf_counter() - began})


def _seen_from_everywhere(atlas: Atlas) -> Atlas:
    recordings = place_at(atlas.recordings).absolute()
    return replace(atlas, root=atlas.root.absolute(), recordings_at=str(recordings))


def _record_groups(
    client: Client, address: str, piece: Piece, begun: RecordingReceipt, progress: Progress
) -> RecordingReceipt:
    """Give out groups of shards; those of a worker that dies go to another one."""
    shard_images = int(read_attributes(place_at(begun.path))["shard_images"])
    shards = -(-begun.images // shard_images)
    size = max(1, shards // (piece.workers * GROUPS_PER_WORKER))
    groups = [tuple(range(first, shards)[:size]) for first in range(0, shards, size)]
    pieces = [replace(piece, positions=group, repair=False) for group in groups]
    futures = client.map(record_piece, pieces, pure=False)
    images = {
        future.key: min(group[-1] * shard_images + shard_images, begun.images)
        - group[0] * shard_images
        for future, group in zip(futures, groups, strict=True)
    }
    done: list[RecordingReceipt] = []
    with progress(f"recording {begun.recording}", begun.images) as advance:
        for future, receipt in finished(client, futures, address):
            done.append(receipt)
            advance(images[future.key])
    last = min(done, key=lambda receipt: receipt.shards_left)
    notices = dict.fromkeys((*begun.notices, *last.notices))
    update = {"made": True, "resumed_shards": begun.resumed_shards, "notices": tuple(notices)}
    return last.model_copy(update=update)
