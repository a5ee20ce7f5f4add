"""Check of one recording: every stored object against the receipt that lists it."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from activarium.schemas.layout import (
    ARRAYS,
    FINAL_RECEIPT,
    FORMAT_VERSION,
    RECEIPTS,
    ROOT,
    STORE_RECEIPT,
    receipt_name,
)
from activarium.schemas.receipts import FinalReceipt, Receipt, ShardReceipt, StoreReceipt
from activarium.schemas.stored_object import EarlierObject
from activarium.tasks.stores.checksums import first_difference, stored_object
from activarium.tasks.stores.created_objects import root_metadata
from activarium.tasks.stores.receipt_files import DamagedReceiptError, unsealed
from activarium.tasks.stores.recording_store import is_half_created

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from activarium.schemas.stored_object import StoredObject
    from activarium.tasks.stores.places import Place

R = TypeVar("R", bound=Receipt)

DIFFERS = "the content differs from its checksum"
UNLISTED = "no receipt lists it"
FINISHED = {spec.name for spec in ARRAYS if spec.phase == "finish"}


@dataclass(frozen=True)
class Finding:
    """One object that was looked at."""

    object: str
    """Its key."""
    problem: str = ""
    """Empty for a sound one."""
    shard: int | None = None
    """The shard that wrote it; None for what shards do not write."""
    first_byte: int | None = None
    """Where the first block begins that differs, where that is known."""
    last_byte: int | None = None
    unfinished: str = ""
    """What is still to be made, where nothing is wrong."""
    is_checked_less: bool = False
    """Whether it has only the checksum of an earlier version."""


@dataclass
class _Check:
    """What is known of a recording while it is checked."""

    place: Place
    sizes: dict[str, int]
    listed: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    def receipt(self, kind: type[R], key: str, shard: int | None = None) -> R | None:
        """Return a receipt, None and a finding where it is damaged."""
        self.listed.add(key)
        try:
            found = unsealed(kind, self.place.read(key))
        except FileNotFoundError:
            self.findings.append(Finding(key, "missing", shard))
        except OSError as error:
            self.findings.append(Finding(key, _unreadable(error), shard))
        except DamagedReceiptError as error:
            last = self.sizes.get(key, 1) - 1
            self.findings.append(Finding(key, str(error), shard, 0, max(last, 0)))
        else:
            self.findings.append(Finding(key, "", shard))
            return found
        return None

    def objects(
        self, stored: Iterable[StoredObject | EarlierObject], shard: int | None = None
    ) -> None:
        """Compare objects with what their receipt notes."""
        everything = list(stored)
        self.listed.update(each.key for each in everything)
        with ThreadPoolExecutor(self.place.threads) as pool:
            self.findings += pool.map(lambda each: _compare(self.place, each, shard), everything)


def check_store(place: Place) -> tuple[Finding, ...]:
    """Return one finding per object of a recording, in the order of shards and keys.

    Damage is a finding; only a place that cannot be reached is an error.
    """
    check = _Check(place, place.sizes())
    if not check.sizes:
        return (Finding(ROOT, f"no recording at {place}"),)
    if is_half_created(place, check.sizes):
        return _check_half_created(check)
    root = _read_root(place)
    if root.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
        version = root["format_version"]
        problem = f"format version {version!r}, this program reads {FORMAT_VERSION}: record again"
        return (Finding(ROOT, problem),)
    created = check.receipt(StoreReceipt, STORE_RECEIPT)
    check.listed.add(ROOT)
    status = root.get("status")
    if created is not None:
        status = _check_root(check, created) or status
        check.objects(created.objects)
    elif status is None:
        check.findings.append(Finding(ROOT, "the metadata cannot be read"))
    fingerprint = created.fingerprint if created is not None else root.get("fingerprint")
    check.findings += _check_name(place, fingerprint)
    expected = created.shards if created is not None else None
    missing = _check_shards(check, expected, fingerprint, is_complete=status == "complete")
    final = None
    if status == "complete" or FINAL_RECEIPT in check.sizes:
        final = check.receipt(FinalReceipt, FINAL_RECEIPT)
        check.objects(final.objects if final is not None else ())
    if status == "complete" and created is not None:
        check.findings += _unlisted(check, missing, knows_final=final is not None)
    return tuple(_once(check.findings))


def _check_half_created(check: _Check) -> tuple[Finding, ...]:
    """Check what a creation that was stopped has written; the rest is not missing."""
    created = check.receipt(StoreReceipt, STORE_RECEIPT)
    objects = () if created is None else created.objects
    check.objects(each for each in objects if each.key in check.sizes)
    unfinished = "its creation was stopped: run the same `activarium record` again"
    return (*_once(check.findings), Finding(ROOT, unfinished=unfinished))


def _check_name(place: Place, fingerprint: Any) -> Iterator[Finding]:
    """Yield a finding where a store lies under the name of another recording."""
    named = re.search(r"-([0-9a-f]{12})\.zarr$", place.name)
    if named and isinstance(fingerprint, str) and not fingerprint.startswith(named[1]):
        held = f"it holds the recording of fingerprint {fingerprint[:12]}: it was put in another's place"
        yield Finding(ROOT, held)


def _read_root(place: Place) -> dict[str, Any]:
    """Return the recording's attributes, as far as they can be read."""
    try:
        attributes = json.loads(place.read(ROOT))["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return attributes if isinstance(attributes, dict) else {}


def _check_root(check: _Check, created: StoreReceipt) -> str | None:
    """Compare the root metadata with both contents that it can have; return its status."""
    findings = []
    for status in ("complete", "recording"):
        stored = stored_object(ROOT, root_metadata(created, status))
        found = _compare(check.place, stored, None)
        if not found.problem:
            check.findings.append(found)
            return status
        findings.append(found)
    # The status is one of two words: the content that agrees longer is the one that was written.
    check.findings.append(max(findings, key=lambda found: found.first_byte or 0))
    return None


def _check_shards(
    check: _Check, expected: int | None, fingerprint: Any, *, is_complete: bool
) -> set[int]:
    """Check every shard that has a receipt; return those whose objects are not known."""
    found = {_index(key) for key in check.sizes if key.startswith(f"{RECEIPTS}/shard-")} - {None}
    count = expected if expected is not None else max((each or 0 for each in found), default=-1) + 1
    unknown, images = set(), 0
    for shard in range(count):
        key = f"{RECEIPTS}/{receipt_name(shard)}"
        if shard not in found and not is_complete:
            unknown.add(shard)
            continue
        receipt = check.receipt(ShardReceipt, key, shard)
        if receipt is None:
            unknown.add(shard)
            continue
        if receipt.fingerprint != fingerprint:
            check.findings[-1] = Finding(key, "the receipt belongs to another recording", shard)
        elif receipt.shard != shard:
            check.findings[-1] = Finding(key, f"the receipt of shard {receipt.shard}", shard)
        images += receipt.stop - receipt.start
        check.objects(receipt.objects, shard)
    if not is_complete:
        unfinished = f"the recording is not complete: {images} images have receipts"
        check.findings.append(Finding(ROOT, unfinished=unfinished))
    return unknown


def _index(key: str) -> int | None:
    digits = key.removeprefix(f"{RECEIPTS}/shard-").removesuffix(".json")
    return int(digits) if digits.isdecimal() and key.endswith(receipt_name(int(digits))) else None


def _unlisted(check: _Check, missing: set[int], *, knows_final: bool) -> Iterator[Finding]:
    """Yield objects that no receipt lists, but for those whose receipt is not there to ask."""
    for key in sorted(check.sizes.keys() - check.listed):
        name, *parts = key.split("/")
        is_chunk = len(parts) > 1 and parts[0] == "c" and parts[1].isdecimal()
        is_final = is_chunk and name in FINISHED
        has_receipt = knows_final if is_final else not is_chunk or int(parts[1]) not in missing
        if has_receipt:
            yield Finding(key, UNLISTED)


def _compare(place: Place, stored: StoredObject | EarlierObject, shard: int | None) -> Finding:
    try:
        content = place.read(stored.key)
    except FileNotFoundError:
        return Finding(stored.key, "missing", shard, 0, max(stored.size - 1, 0))
    except OSError as error:
        return Finding(stored.key, _unreadable(error), shard)
    difference = first_difference(stored, content)
    if difference is None:
        is_earlier = isinstance(stored, EarlierObject)
        return Finding(stored.key, "", shard, is_checked_less=is_earlier)
    problem = DIFFERS
    if len(content) != stored.size:
        problem = f"expected {stored.size} bytes, found {len(content)}"
    return Finding(stored.key, problem, shard, *difference)


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"


def _once(findings: list[Finding]) -> Iterator[Finding]:
    """Yield the first problem of each object; an object may be looked at in two ways."""
    first: dict[str, Finding] = {}
    for finding in findings:
        known = first.get(finding.object)
        if known is None or _weight(finding) > _weight(known):
            first[finding.object] = finding
    yield from first.values()


def _weight(finding: Finding) -> int:
    return 2 if finding.problem else 1 if finding.unfinished else 0
