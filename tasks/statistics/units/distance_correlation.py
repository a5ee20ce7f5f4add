"""Distance correlation of every unit with a number per image, in O(N log N) per unit.

With x in ascending order and m values below the gap between two neighbours, sums over pairs of
images become sums over gaps. For the mean distance and both distance variances their terms all
have one sign, so that they keep their digits. The U-centred matrix of x does not depend on the
outermost gaps, where one value stands against all others: these are closed before the one sum
that needs the order of both variables. The V-statistic follows from the U-statistic by adding its
bias.

References
----------
Szekely, Rizzo and Bakirov (2007), Measuring and testing dependence by correlation of distances;
Szekely and Rizzo (2013), The distance correlation t-test of independence in high dimension;
Huo and Szekely (2016), Fast computing for distance covariance;
Shen, Panda and Vogelstein (2022), The chi-square test of distance correlation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from activarium.tasks.statistics.tail_probabilities import chi2_log10_sf, f_log10_sf
from activarium.tasks.statistics.units.spearman import check_target, sorted_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_LOW_WORD = np.uint64(0xFFFFFFFF)
_ROUNDING = 1e-15
_LOG10 = np.log(10.0)


class DistanceCorrelation(NamedTuple):
    """Dependence of every unit on the target, each of shape (unit,)."""

    correlation: NDArray[np.float64]
    """Distance correlation in [0, 1], from V-statistics."""
    corrected: NDArray[np.float64]
    """Bias-corrected squared distance correlation in [-1, 1], 0 on average if independent."""
    chi2_p: NDArray[np.float64]
    chi2_log10_p: NDArray[np.float64]
    t_p: NDArray[np.float64]
    t_log10_p: NDArray[np.float64]


class _Target(NamedTuple):
    """The target in ascending order, scaled, and its sums over pairs."""

    order: NDArray[np.int64]
    """The images by ascending target, shape (image,)."""
    closed: NDArray[np.float64]
    """Numbers without the outermost gaps, less their mean, shape (image,)."""
    rows: NDArray[np.float64]
    """Mean distance of each image from all images, shape (image,)."""
    mean: float
    v: float
    u: float


@njit(nogil=True, cache=True)
def _margin(x: Array, rows: Array) -> tuple[float, float, float]:
    """Return mean distance and sums of squares of the V- and U-centred distances; fill `rows`.

    `x` ascends; `rows` takes the mean distance of each value from all. The squares are sums over
    pairs of gaps g_k g_l, k <= l, of 4 m_k^2 (n - m_l)^2 / n^2 where doubly centred, and of
    4 m_k (m_k - 1) (n - m_l) (n - m_l - 1) / ((n - 1) (n - 2)) where U-centred.
    """
    n = x.size
    mean, v, v_below, u, u_below, row = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(1, n):
        row += x[i] - x[0]
    rows[0] = row / n
    for m in range(1, n):
        gap = x[m] - x[m - 1]
        row += gap * (2 * m - n)
        rows[m] = row / n
        low, high = m / n, (n - m) / n
        mean += 2.0 * gap * low * high
        v += gap * high * high * (2.0 * v_below + gap * low * low)
        v_below += gap * low * low
        u += gap * high * (n - m - 1) * (2.0 * u_below + gap * low * (m - 1))
        u_below += gap * low * (m - 1)
    return mean, 4.0 * v * n * n, 4.0 * u * n * n / max((n - 1.0) * (n - 2.0), 1.0)


@njit(nogil=True, cache=True)
def _close_ends(x: Array) -> None:
    """Close the outermost gaps of ascending values, and only then move the lowest to 0.

    So a far lowest value takes no digits from the others.
    """
    n = x.size
    x[0], x[n - 1] = x[1], x[n - 2]
    lowest = x[0]
    for i in range(n):
        x[i] -= lowest


@njit(nogil=True, cache=True)
def _distances_before(x: Array, tag: NDArray[np.int64], tree: Array, inner: Array) -> None:
    """Fill inner[e] with the sum of |x_e - x_f| over the images f < e, in the target's order.

    `x` ascends from 0 and `tag` holds e. Column 0 of the binary indexed tree counts the values
    passed so far, column 1 sums them; `inner` comes with the sums of all x_f over f < e.
    """
    n = x.size
    tree[:] = 0.0
    start = 0
    # The lowest value, after a ReLU half of all, needs no look-up and adds only to the counts.
    while start < n and x[start] == 0:
        tree[tag[start] + 1, 0] = 1.0
        start += 1
    for j in range(1, n + 1):
        above = j + (j & -j)
        if above <= n:
            tree[above, 0] += tree[j, 0]
    for i in range(start, n):
        e = tag[i]
        count, total = 0.0, 0.0
        j = e
        while j > 0:
            count += tree[j, 0]
            total += tree[j, 1]
            j &= j - 1
        inner[e] += x[i] * (2.0 * count - e) - 2.0 * total
        j = e + 1
        while j <= n:
            tree[j, 0] += 1.0
            tree[j, 1] += x[i]
            j += j & -j


@njit(nogil=True, cache=True)
def _add(total: float, lost: float, value: float) -> tuple[float, float]:
    """Add to a running total by Kahan's summation; `lost` is what rounding added too much."""
    step = value - lost
    larger = total + step
    return larger, (larger - total) - step


@njit(nogil=True, cache=True)
def _u_product(x: Array, tag: NDArray[np.int64], closed: Array, tree: Array) -> float:
    """Return the sum of products of the U-centred distances, for `x` ascending from 0."""
    n = x.size
    inner, row = np.empty(n), np.empty(n)
    distance, every, before, rows, product = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        distance += x[i]
    # Large sums that nearly cancel below: compensated, the rounding does not grow with the images.
    lost = 0.0
    for i in range(n):
        if i > 0:
            distance += (x[i] - x[i - 1]) * (2 * i - n)
        row[tag[i]] = distance / (n - 2.0)
        inner[tag[i]] = x[i]
        every, lost = _add(every, lost, distance / (n - 2.0))
    lost = 0.0
    for e in range(n):
        value = inner[e]
        inner[e] = before
        before, lost = _add(before, lost, value)
    _distances_before(x, tag, tree, inner)
    lost = 0.0
    for e in range(n):
        centred = inner[e] - e * row[e] - rows + e * (every / (n - 1.0))
        product += closed[e] * centred
        rows, lost = _add(rows, lost, row[e])
    return 4.0 * product


@njit(nogil=True, cache=True)
def _sums(
    words: NDArray[np.uint64], values: NDArray[np.float32], target: _Target, out: Array
) -> None:
    """Fill `out` (unit, 5): mean distance, sums of squares V and U, of products V and U."""
    units, n = words.shape
    x, rows = np.empty(n), np.empty(n)
    tree = np.empty((n + 1, 2))
    tag = np.empty(n, np.int64)
    for unit in range(units):
        for i in range(n):
            tag[i] = np.int64(words[unit, i] & _LOW_WORD)
        for i in range(n):
            x[i] = np.float64(values[unit, target.order[tag[i]]])
        mean, v, u = _margin(x, rows)
        between = 0.0
        for i in range(n):
            between += (rows[i] - mean) * (target.rows[tag[i]] - target.mean)
        _close_ends(x)
        product = _u_product(x, tag, target.closed, tree)
        bias = 4.0 * n * between / (n - 2.0) + n * n * mean * target.mean / (n - 1.0)
        out[unit, 0], out[unit, 1], out[unit, 2] = mean, v, u
        out[unit, 3], out[unit, 4] = product + bias, product


def distance_correlation(
    responses: NDArray[np.float32], target: NDArray[np.float64]
) -> DistanceCorrelation:
    """Return the distance correlation of each unit with the target, and two tests of it.

    In a large sample it is near 0 only where they are independent, and it is 1 where one is a
    linear function of the other. Both tests are one-sided, for a large bias-corrected value C:

    - chi2: N C + 1 against chi-squared with 1 degree of freedom. Its p-values are valid, at
      worst too large, up to about 0.05 and from about 20 images on.
    - t: Student's t with N (N - 3) / 2 - 1 degrees of freedom. It is made for variables of many
      dimensions; for one number per image as here its small p-values are far too small:
      independent normal variables fall below 0.001 about 17 times as often as they should.

    A constant unit or target and fewer than two images give correlation = 0, corrected = 0 and
    p = 1. corrected = 0, p = 1 also for fewer than four images, and where all images but one have
    equal values: then all U-centred distances are 0. Two images that differ in both give
    correlation = 1. A squared correlation that rounding cannot tell from 0 is 0.

    Parameters
    ----------
    responses
        Finite responses, shape (unit, image), float32.
    target
        A finite number per image, shape (image,), float64.

    Returns
    -------
    Distance correlation, its bias-corrected square, p and log10 p of both tests, each of shape
    (unit,).

    Raises
    ------
    ValueError
        Where shapes or types do not fit, the target is not finite, or there are too many images.

    References
    ----------
    Szekely, Rizzo and Bakirov (2007), section 2; Szekely and Rizzo (2013), section 2, for the
    t-test; Shen, Panda and Vogelstein (2022), section 3, for chi2.
    """
    check_target(responses, target)
    units, images = responses.shape
    if images < 3:
        return _of_two(responses, target)
    ascending = _target(target)
    place = np.empty(images, np.int64)
    place[ascending.order] = np.arange(images)
    sums = np.zeros((units, 5))
    for block, words in sorted_words(responses, place):
        _sums(words, responses[block], ascending, sums[block])
    return _correlation(sums, ascending, images)


def _target(target: Array) -> _Target:
    order = np.argsort(target, kind="stable")
    # Scaled by a power of 2, so that no square passes the range of a double.
    y = np.ldexp(target[order], -np.frexp(np.abs(target).max())[1])
    rows = np.empty(y.size)
    mean, v, u = _margin(y, rows)
    _close_ends(y)
    return _Target(order, y - y.mean(), rows, mean, v, u)


def _of_two(responses: NDArray[np.float32], target: Array) -> DistanceCorrelation:
    """Return the results for fewer than three images: 1 where both vary."""
    varies = np.zeros(len(responses), np.bool_)
    if target.size == 2:
        varies = (responses[:, 0] != responses[:, 1]) & (target[0] != target[1])
    return _tested(varies.astype(np.float64), np.zeros(len(responses)), np.zeros_like(varies), 2)


def _correlation(sums: Array, target: _Target, images: int) -> DistanceCorrelation:
    mean, v, u, v_product, u_product = sums.T
    noise = _ROUNDING * images**1.5 * mean * target.mean
    squared = _ratio(np.where(v_product > noise, v_product, 0.0), np.sqrt(v) * np.sqrt(target.v))
    defined = (u > 0) & (target.u > 0) & (images > 3)
    corrected = np.where(defined, _ratio(u_product, np.sqrt(u) * np.sqrt(target.u)), 0.0)
    return _tested(np.sqrt(squared), corrected, defined, images)


def _ratio(product: Array, norm: Array) -> Array:
    """Return product / norm, kept in [-1, 1]; 0 where the norm is 0."""
    ratio = np.zeros(product.shape)
    np.divide(product, norm, out=ratio, where=norm > 0)
    return np.clip(ratio, -1.0, 1.0)


def _tested(
    correlation: Array, corrected: Array, defined: NDArray[np.bool_], images: int
) -> DistanceCorrelation:
    """Return the correlations with their tests; p is 1 where `corrected` is not defined."""
    chi2 = np.where(defined, chi2_log10_sf(images * corrected + 1.0, 1), 0.0)
    t = np.where(defined, _t_log10_p(corrected, max(images * (images - 3) // 2 - 1, 1)), 0.0)
    return DistanceCorrelation(correlation, corrected, 10.0**chi2, chi2, 10.0**t, t)


def _t_log10_p(corrected: Array, degrees: int) -> Array:
    """Return log10 of the one-sided p of the t-test."""
    rest = (1.0 - corrected) * (1.0 + corrected)
    f = np.full(corrected.shape, np.inf)
    np.divide(degrees * corrected**2, rest, out=f, where=rest > 0)
    upper = f_log10_sf(f, 1, degrees) + np.log10(0.5)
    log10_p: Array = np.where(corrected > 0, upper, np.log1p(-(10.0**upper)) / _LOG10)
    return log10_p
