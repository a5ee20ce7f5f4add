"""Numbers in the names of checkpoints: which of them count steps or epochs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["step", "epoch", "bare"]

_STEP = r"steps?|globalsteps?|iterations?|iters?|it|updates?|ba|batch|batches"
_EPOCH = r"epochs?|ep|e"
"""Words before a number that say what it counts."""

_UNITS = r"(steps|iterations|iters|updates|batches|epochs)"
"""Words after a number that do so."""

_ATTACHED = re.compile(r"[nstx]|net|model|ckpt|chkpt|checkpoint|weights|snapshot")
"""Words to which the step is attached: `net10k`, but `resnet50`, `f1` and `prec1` are names."""

_KNOWN = re.compile(
    r"[a-km-z]|model|weights?|snapshot|state|save|round|cifar\d*|mnist|imagenet\d*|svhn"
    r"|(vit|vgg|swin|deit|convnext)\d*"
    r"|.*(step|epoch|ckpt|chkpt|checkpoint|model|net|cnn)|.*net\d+"
)
"""Words, of checkpoints, networks and data sets, and letters, after which a number counts steps."""

_VALUES = re.compile(
    r"lr|wd|bs|seed|fold|width|size|depth|dim|patch|window|rank|l"
    r"|acc|accuracy|loss|val|err|error|f1|auc|map|miou|iou|top|score|metric|psnr|ssim"
)
"""Words that have a value of their own: a number after that value does not belong to them."""

_SCALES = {"k": 1_000, "m": 1_000_000, "b": 1_000_000_000}

_LIMIT = 2**63
"""Steps are kept as whole numbers of 64 bits."""

_QUANTITY = r"\d{1,3}(?:,\d{3})+(?![\d,])|\d+(?:[.,]\d+)*(?:e[-+]?\d+|[kmb])?(?![^\W_])|\d+"
_NUMBER = re.compile(
    rf"(?P<word>[^\W\d_]+)?(?P<between>[\W_]*)(?P<number>{_QUANTITY})(?P<rest>[^\W_]*)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Counted:
    """A number of a name that counts something of the training."""

    value: int
    kind: Kind


def whole_number(text: str) -> int | None:
    """Return the whole number that a text means; None for decimals and what is beyond 64 bits.

    Of several parts between dots the first counts, and the rest is a decimal.

    >>> whole_number("1,000"), whole_number("2.5k"), whole_number("3.0.91"), whole_number("0.91")
    (1000, 2500, 3, None)
    """
    if re.fullmatch(r"\d{1,3}(,\d{3})+", text):
        text = text.replace(",", "")
    if re.fullmatch(r"\d+(\.\d+){2,}", text):
        text = text.partition(".")[0]
    scale = _SCALES.get(text[-1].lower(), 1)
    plain = text[:-1] if scale > 1 else text
    has_suffix = scale > 1 or "e" in plain.lower()
    if not re.fullmatch(
        r"\d+(\.\d+)?(e\+?\d{1,2})?" if has_suffix else r"\d+", plain, re.IGNORECASE
    ):
        return None
    value = Decimal(plain) * scale
    return int(value) if value < _LIMIT and value == value.to_integral_value() else None


def counted_numbers(stem: str) -> list[Counted]:
    """Return the numbers of a name, without its ending, that may count steps or epochs.

    A number counts after a word for steps, epochs, checkpoints or networks, before the plural of
    one of the former, where no word goes before it, and where it has three digits or more and
    begins with zero. After any other word (`acc_61`, `ppl_35`) it may measure something.

    >>> [(each.value, each.kind) for each in counted_numbers("net-epoch_3-acc_61-1,000-v2")]
    [(3, 'epoch'), (1000, 'bare')]
    """
    text = re.sub(r"(?<=.)[-_]v\d+$", "", stem)
    text = re.sub(r"(?<![^\W\d_])(top)[-_]?\d+", r"\1", text, flags=re.IGNORECASE)
    text = re.sub(r"^v(\d+)$", r"\1", text)
    return list(_counted(text))


def _counted(text: str) -> Iterator[Counted]:
    name = ""  # the word and number that went directly before, where they count nothing
    for found in _NUMBER.finditer(text):
        word = (found["word"] or name).lower()
        name = ""
        is_attached = bool(found["word"]) and not found["between"]
        unit = re.match(
            rf"[-_ ]?{_UNITS}(?![^\W_]|[\W_]*\d)", text[found.end("number") :], re.IGNORECASE
        )
        value = whole_number(found["number"])
        is_negative = len(found["between"]) > 1 and found["between"].endswith("-")
        kind: Kind | None = _kind_of_unit(unit[1]) if unit else None
        kind = kind or _kind_of_word(word, found["number"], is_attached=is_attached)
        if not kind and not _VALUES.fullmatch(word):
            name = word + found["number"] + found["rest"]
        is_readable = value is not None and not is_negative and (bool(unit) or not found["rest"])
        if kind and is_readable:
            yield Counted(value or 0, kind)


def _kind_of_unit(unit: str) -> Kind:
    return "epoch" if unit.lower() == "epochs" else "step"


def _kind_of_word(word: str, number: str, *, is_attached: bool) -> Kind | None:
    """Return what a number after a word counts; None where it may measure anything."""
    if re.fullmatch(_STEP, word):
        return "step"
    if re.fullmatch(_EPOCH, word):
        return "epoch"
    is_padded = re.fullmatch(r"0\d{2,}", number) is not None
    is_known = (_ATTACHED if is_attached else _KNOWN).fullmatch(word) is not None
    return "bare" if not word or is_known or (is_padded and not _VALUES.fullmatch(word)) else None


def labelled(stem: str, kind: Kind) -> int | None:
    """Return the number of a name that is said to count steps, or epochs; None for none or several."""
    values = {each.value for each in counted_numbers(stem) if each.kind == kind}
    return values.pop() if len(values) == 1 else None


def bare_numbers(stem: str) -> list[int]:
    """Return the numbers of a name that may count steps, whether it says so or not.

    >>> bare_numbers("resnet18-005"), bare_numbers("net-61.5-10k-v2"), bare_numbers("ppl_35")
    ([5], [10000], [])
    """
    return [each.value for each in counted_numbers(stem)]
