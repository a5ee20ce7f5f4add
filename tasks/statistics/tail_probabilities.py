"""Logarithms of tail probabilities that never underflow, for chi-squared, F and normal tests.

Where a tail is larger than 1e-280 it is SciPy's; beyond, the tail is its leading factor, known as
a logarithm, times a continued fraction of moderate size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

_LOG10 = np.log(10.0)
_SMALLEST = 1e-280
_TINY = 1e-300
_MAX_TERMS = 100_000


def _continued_fraction(term: Callable[[int], tuple[Array, Array]], first: Array) -> Array:
    """Return first + a1/(b1 + a2/(b2 + ...)) by the modified Lentz method, element by element.

    `term(i)` returns the arrays a_i and b_i, for i = 1, 2, ...
    """
    value = np.where(first == 0, _TINY, first)
    c = value
    d = np.zeros_like(value)
    for i in range(1, _MAX_TERMS):
        a, b = term(i)
        d = b + a * d
        d = 1.0 / np.where(d == 0, _TINY, d)
        c = b + a / c
        c = np.where(c == 0, _TINY, c)
        value = value * (c * d)
        if np.all(np.abs(c * d - 1.0) < 4e-16):
            return value
    msg = f"a tail probability did not converge within {_MAX_TERMS} terms"
    raise ArithmeticError(msg)


def _log_gamma_tail(a: Array, x: Array) -> Array:
    """Return ln Q(a, x) of the incomplete gamma function, for x well above a."""

    def term(i: int) -> tuple[Array, Array]:
        return -i * (i - a), x + 2.0 * i + 1.0 - a

    fraction = _continued_fraction(term, x + 1.0 - a)
    log_tail: Array = a * np.log(x) - x - special.gammaln(a) - np.log(fraction)
    return log_tail


def _log_beta_tail(p: Array, q: Array, log_y: Array, log_rest: Array) -> Array:
    """Return ln I_y(p, q) of the incomplete beta function, for y well below p / (p + q).

    `log_rest` is ln(1 - y).
    """
    y = np.exp(log_y)

    def term(i: int) -> tuple[Array, Array]:
        k = i // 2
        if i % 2:
            a = -(p + k) * (p + q + k) / ((p + 2 * k) * (p + 2 * k + 1))
        else:
            a = k * (q - k) / ((p + 2 * k - 1) * (p + 2 * k))
        return a * y, np.ones_like(y)

    fraction = _continued_fraction(term, np.ones_like(y))
    front: Array = p * log_y + q * log_rest - np.log(p) - special.betaln(p, q)
    return front - np.log(fraction)


def _log_of_tail(upper: Array, lower: Array) -> Array:
    """Return ln of a tail from both tails; near one it comes from the small other tail."""
    near_one = lower < 0.5
    log_upper = np.log(np.where(near_one, 1.0, np.maximum(upper, _SMALLEST)))
    return np.where(near_one, np.log1p(-np.where(near_one, lower, 0.0)), log_upper)


def _positive(name: str, value: Array) -> None:
    if not np.all(value > 0):
        msg = f"{name} must be above 0, got {np.min(value)!r}"
        raise ValueError(msg)


def chi2_log10_sf(x: ArrayLike, df: ArrayLike) -> NDArray[np.float64]:
    """Return log10 of the chi-squared survival function P(X > x).

    Parameters
    ----------
    x
        Statistic, any shape; 0.0 is returned where it is 0 or less, -inf where it is infinite.
    df
        Degrees of freedom, broadcast against `x`.

    Returns
    -------
    log10 p in [-inf, 0], of the broadcast shape; NaN where `x` is NaN.

    Raises
    ------
    ValueError
        Where `df` is not above 0.

    References
    ----------
    NIST Digital Library of Mathematical Functions, equation 8.9.2 (its even part).
    """
    value, degrees = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(df, np.float64))
    _positive("df", degrees)
    a, half = degrees / 2.0, _inside(value) / 2.0
    upper = special.gammaincc(a, half)
    log_p = _log_of_tail(upper, special.gammainc(a, half))
    far = upper < _SMALLEST
    if far.any():
        log_p[far] = _log_gamma_tail(a[far], half[far])
    return _at_the_ends(value, log_p)


def f_log10_sf(f: ArrayLike, dfn: ArrayLike, dfd: ArrayLike) -> NDArray[np.float64]:
    """Return log10 of the survival function P(X > f) of the F distribution.

    Parameters
    ----------
    f
        Statistic, any shape; 0.0 is returned where it is 0 or less, -inf where it is infinite.
    dfn, dfd
        Degrees of freedom of numerator and denominator, broadcast against `f`.

    Returns
    -------
    log10 p in [-inf, 0], of the broadcast shape; NaN where `f` is NaN.

    Raises
    ------
    ValueError
        Where degrees of freedom are not above 0.

    References
    ----------
    NIST Digital Library of Mathematical Functions, equation 8.17.22.
    """
    value, n, d = np.broadcast_arrays(
        np.asarray(f, np.float64), np.asarray(dfn, np.float64), np.asarray(dfd, np.float64)
    )
    _positive("dfn", n)
    _positive("dfd", d)
    # ln(dfn f / dfd), so that the ratio itself may pass the range of a double.
    log_ratio = np.log(_inside(value)) + np.log(n / d)
    log_y, log_rest = -np.logaddexp(0.0, log_ratio), -np.logaddexp(0.0, -log_ratio)
    y, rest = np.exp(log_y), np.exp(log_rest)
    upper = special.betainc(d / 2.0, n / 2.0, y)
    log_p = _log_of_tail(upper, special.betainc(n / 2.0, d / 2.0, rest))
    far = upper < _SMALLEST
    if far.any():
        log_p[far] = _log_beta_tail(d[far] / 2.0, n[far] / 2.0, log_y[far], log_rest[far])
    return _at_the_ends(value, log_p)


def _inside(value: Array) -> Array:
    """Return a positive, finite number in place of each value that has its rule at the ends."""
    return np.where((value > 0) & np.isfinite(value), value, 1.0)


def _at_the_ends(value: Array, log_p: Array) -> Array:
    """Return log10 p from ln p, by rule where the statistic is 0 or less, infinite or NaN."""
    # Rounding may leave a probability above one, and a negative zero below it.
    log10_p = np.where(value > 0, np.minimum(log_p / _LOG10, 0.0) + 0.0, 0.0)
    log10_p = np.where(np.isposinf(value), -np.inf, log10_p)
    return np.where(np.isnan(value), np.nan, log10_p)


def normal_two_sided_log10_p(z: ArrayLike) -> NDArray[np.float64]:
    """Return log10 of P(abs(Z) > abs(z)) for a standard normal Z.

    Parameters
    ----------
    z
        Statistic, any shape; either sign.

    Returns
    -------
    log10 p in [-inf, 0], of the shape of `z`; NaN where `z` is NaN.

    References
    ----------
    NIST Digital Library of Mathematical Functions, equation 7.2.2.
    """
    size = np.abs(np.atleast_1d(np.asarray(z, np.float64)))
    # Beyond 1e150 the square overflows; the result there is -5e299 / ln 10 at most.
    scaled = np.minimum(size, 1e150) / np.sqrt(2.0)
    near = scaled < 0.5
    log_p = np.log(special.erfcx(scaled)) - scaled * scaled
    log_p[near] = np.log1p(-special.erf(scaled[near]))
    log_p[np.isinf(size)] = -np.inf
    log10_p: Array = log_p / _LOG10 + 0.0
    return log10_p.reshape(np.shape(z))
