"""The model's answer to each image: prediction, confidence, margin, entropy, loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import logsumexp

from activarium.tasks.analysis.names import named

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.stores.recording import Recording


def answers(logits: NDArray[np.floating], label: NDArray[np.integer]) -> dict[str, NDArray[Any]]:
    """Return what the logits say of each image.

    Parameters
    ----------
    logits
        Shape (image, class); a row of NaN gives NaN, and -1 as prediction.
    label
        Class code, shape (image,); -1 gives a loss of NaN.

    Returns
    -------
    `predicted` (class code), `confidence` (largest softmax probability), `margin` (largest logit
    minus the runner-up's), `entropy` and `loss` (in nat). Of a single output all are NaN, and the
    prediction -1: a softmax over one number is 1 whatever the number, and whether the number is a
    logit, a probability or a measured quantity cannot be seen from it.
    """
    if logits.shape[1] == 1:
        nothing = np.full(len(logits), np.nan)
        return {
            "predicted": np.full(len(logits), -1),
            **dict.fromkeys(("confidence", "margin", "entropy", "loss"), nothing),
        }
    exact = logits.astype(np.float64)
    readable = np.asarray(~np.isnan(exact).any(axis=1))
    log_p = exact - logsumexp(exact, axis=1, keepdims=True)
    safe = np.where(readable[:, None], exact, 0.0)
    top = np.sort(safe, axis=1)[:, -2:]
    known = np.flatnonzero(readable & (label >= 0) & (label < exact.shape[1]))
    loss = np.full(len(exact), np.nan)
    loss[known] = -log_p[known, label[known]]
    margin = top[:, -1] - top[:, 0]
    entropy = -(np.exp(log_p) * log_p).sum(axis=1)
    return {
        "predicted": np.where(readable, safe.argmax(axis=1), -1),
        "confidence": np.minimum(np.exp(log_p.max(axis=1)), 1.0),
        "margin": np.where(readable, margin, np.nan),
        "entropy": np.maximum(entropy, 0.0),
        "loss": np.maximum(loss, 0.0),
    }


def image_rows(recording: Recording) -> dict[str, Any]:
    """Return the rows of the table `images`.

    Where an image's shard is not there, what the shard would tell is null, and `valid` false.
    Where the model has another number of outputs than there are classes, its outputs cannot be
    matched with the labels: prediction, correctness and loss are null. Of a single output nothing
    is said at all.
    """
    logits, label = recording.read_stored("logits"), recording.labels
    comparable = logits.shape[1] == len(recording.class_names)
    found = answers(logits, label if comparable else np.full_like(label, -1))
    predicted = found.pop("predicted") if comparable else np.full(len(label), -1)
    unknown = (predicted < 0) | (label < 0)
    return {
        "image_index": np.arange(len(label)),
        "image": recording.image_names,
        "label": label,
        "class": named(label, recording.class_names),
        "valid": recording.valid,
        "predicted": named(predicted, recording.class_names),
        "correct": pa.array(predicted == label, mask=unknown),
        **{name: found[name] for name in ("confidence", "margin", "entropy", "loss")},
    }


def why_null(name: str, images: pa.Table) -> str:
    """Return why a column is null for every image of the table `images`; empty where it is not."""

    def is_null(column: str) -> bool:
        return bool(0 < images.num_rows == images.column(column).null_count)

    if name not in images.column_names or not is_null(name):
        return ""
    if name == "class" or (name in {"correct", "loss"} and is_null("class")):
        return "no image has a class"
    if is_null("confidence"):
        return "the model has one output, or no image could be decoded"
    return "the model's outputs are not the test set's classes"


def accuracy_of(rows: dict[str, Any]) -> float:
    """Return the share of right predictions among the images that can be judged; NaN if none."""
    share = pc.mean(rows["correct"]).as_py()
    return float("nan") if share is None else float(share)
