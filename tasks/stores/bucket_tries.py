"""Requests to a bucket, tried again for a while: every one of them may be repeated.

The client repeats some kinds of requests, a number of times; a server that is started again takes
seconds, and a connection can end within any answer. So each request is bounded by time, here.
"""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

from activarium.tasks.stores.bucket_faults import explain, is_missing_object, may_pass, number_of

if TYPE_CHECKING:
    from activarium.tasks.stores.bucket import Bucket

PATIENCE = "ACTIVARIUM_S3_PATIENCE"
"""Environment variable: seconds for which a request that fails is tried again, 120 by default."""

FIRST_SECONDS = 10
"""The same for a bucket that has not answered yet: its address may be wrong."""

TOLD_SECONDS = 5
"""Seconds of waiting after which it is told."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0

_answered: set[str] = set()
"""Buckets that have answered this process."""


class Tries:
    """The tries of one request.

    Parameters
    ----------
    place
        What is asked.
    """

    def __init__(self, place: Bucket) -> None:
        self._place = place
        self._seconds = number_of(PATIENCE, 120)
        self._began = time.monotonic()
        self._pause = _FIRST_PAUSE
        self._is_told = False
        self.failed = 0
        """Tries that failed, of which any may have done what it asked."""

    def succeeded(self) -> None:
        """Note that the bucket has answered, and begin anew to count the time."""
        _answered.add(self._place.bucket)
        self._began, self._pause = time.monotonic(), _FIRST_PAUSE

    def pause_after(self, error: Exception) -> float:
        """Return the seconds to wait before the next try.

        Raises
        ------
        FileNotFoundError
            If the object is not there.
        UserError
            If the fault will not pass, or has not in time; nothing of the client's message is in it.
        """
        if is_missing_object(error):
            self.succeeded()
            raise FileNotFoundError(f"{self._place}: there is no such object") from None
        is_known = self._place.bucket in _answered
        bound = self._seconds if is_known else min(self._seconds, FIRST_SECONDS)
        waited = time.monotonic() - self._began
        is_over = waited + self._pause > bound and self.failed > 0
        if not may_pass(error) or is_over:
            # The message of the client can hold parts of the credentials: it goes no further.
            raise explain(error, self._place) from None
        self.failed += 1
        if waited > TOLD_SECONDS and not self._is_told:
            self._is_told = True
            logging.getLogger(__name__).warning(
                "%s does not answer; trying again for up to %d seconds", self._place, bound
            )
        pause = self._pause * random.uniform(0.5, 1.0)  # noqa: S311 - so that machines take turns
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return pause
