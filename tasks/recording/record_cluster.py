"""Spreads the shards of a recording over the workers of a Dask cluster."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from distributed.comm.addressing import get_address_host

from activarium.schemas.errors import UserError
from activarium.schemas.layout import Shard
from activarium.tasks.cluster import check_workers, cluster, finished, submit
from activarium.tasks.progress import silent
from activarium.tasks.recording.cores import usable_cores
from activarium.tasks.recording.share import Share
from activarium.tasks.shared_folders import marked
from activarium.tasks.stores.places import Folder, place_at
from activarium.tasks.stores.recording_store import (
    finalise,
    is_final,
    pending_shards,
    read_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from distributed import Client

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import RunConfig
    from activarium.schemas.receipts import CheckpointReceipt, RecordingReceipt
    from activarium.tasks.cluster_worker import Done
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
    """Record on the workers of a running Dask cluster, which see the recordings under the same path.

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
        If the scheduler does not answer, has no workers, or loses them all or one after the other;
        if a worker does not see the recordings, or fails in what the user can mend; if what workers
        stored is not seen here.
    """
    began = time.perf_counter()
    atlas = _seen_from_everywhere(atlas)
    with cluster(address) as client, marked(_folders(atlas)) as marks:
        hosts = Counter(map(get_address_host, check_workers(client, marks, address)))
        piece = Piece(
            atlas,
            config,
            _absolute(checkpoint),
            workers=max(1, hosts.total()),
            workers_per_host=max(hosts.values(), default=1),
            positions=(),
            repair=repair,
        )
        first = submit(client, record_piece, marks, [(piece,)], address)
        ((_, begun),) = finished(client, first, address)
        groups = _Groups(client, address, marks, piece, begun)
        made = groups.record(progress) if begun.value.shards_left else begun.value
        groups.check_stored()
    return made.model_copy(update={"shards_left": 0, "seconds": time.perf_counter() - began})


def _seen_from_everywhere(atlas: Atlas) -> Atlas:
    recordings = place_at(atlas.recordings).absolute()
    return replace(atlas, root=atlas.root.absolute(), recordings_at=str(recordings))


def _folders(atlas: Atlas) -> list[Path]:
    """Return the folder of the recordings, unless they lie in a bucket."""
    place = place_at(atlas.recordings)
    return [place.path] if isinstance(place, Folder) else []


def _absolute(checkpoint: CheckpointReceipt) -> CheckpointReceipt:
    path = checkpoint.path and checkpoint.path.absolute()
    return checkpoint.model_copy(update={"path": path})


class _Groups:
    """Groups of shards that are given out; those of a worker that dies go to another one.

    Parameters
    ----------
    client, address
        Of the cluster.
    marks
        What its workers must see.
    piece
        What is recorded; its positions follow here.
    begun
        The recording as a worker has created or found it.
    """

    def __init__(
        self, client: Client, address: str, marks: Sequence[Path], piece: Piece, begun: Done
    ) -> None:
        self._client, self._address, self._marks, self._piece = client, address, marks, piece
        self._receipt: RecordingReceipt = begun.value
        self._place = place_at(self._receipt.path)
        try:
            size = int(read_attributes(self._place)["shard_images"])
        except UserError as error:
            raise UserError(f"{begun.worker} recorded, but here there is {error}") from error
        images = self._receipt.images
        starts = enumerate(range(0, images, size))
        self._shards = [Shard(index, start, min(start + size, images)) for index, start in starts]
        self._makers = dict.fromkeys((each.index for each in self._shards), begun.worker)

    def record(self, progress: Progress) -> RecordingReceipt:
        """Record everything that is left, and return what was made."""
        size = max(1, len(self._shards) // (self._piece.workers * GROUPS_PER_WORKER))
        firsts = range(0, len(self._shards), size)
        groups = [self._shards[first : first + size] for first in firsts]
        pieces = [
            (replace(self._piece, positions=tuple(each.index for each in group), repair=False),)
            for group in groups
        ]
        futures = submit(self._client, record_piece, self._marks, pieces, self._address)
        given = {future.key: group for future, group in zip(futures, groups, strict=True)}
        receipts: list[RecordingReceipt] = []
        begun = self._receipt
        with progress(f"recording {begun.recording}", begun.images) as advance:
            for future, done in finished(self._client, futures, self._address):
                receipts.append(done.value)
                self._makers |= dict.fromkeys(
                    (each.index for each in given[future.key]), done.worker
                )
                advance(sum(each.images for each in given[future.key]))
        last = min(receipts, key=lambda receipt: receipt.shards_left)
        notices = dict.fromkeys((*begun.notices, *last.notices))
        update = {"made": True, "resumed_shards": begun.resumed_shards, "notices": tuple(notices)}
        return last.model_copy(update=update)

    def check_stored(self) -> None:
        """Look whether everything is here, whatever the workers say, and complete the recording.

        Raises
        ------
        UserError
            One line that names who made what is not here.
        """
        missing = pending_shards(self._place, self._shards)
        if missing:
            makers = sorted({self._makers[shard.index] for shard in missing})
            raise UserError(
                f"{len(missing)} of {len(self._shards)} shards of {self._receipt.recording} are not "
                f"at {self._place}, where this machine looks; made by {', '.join(makers)}: every "
                "worker needs the same recordings at the same address, then run the same command "
                "again; nothing is lost"
            )
        if not is_final(self._place):
            finalise(self._place)
