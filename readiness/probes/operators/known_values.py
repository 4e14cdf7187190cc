"""Values of special functions, by mpmath: what no library that is under test, nor its float64, has computed.

mpmath comes with torch. Where it does not, nothing is known of these values, and the sweep says so.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

#: Decimal digits of the computation: more than the 17 of float64, and some that may cancel.
_DIGITS = 30


@dataclass(frozen=True, slots=True)
class Function:
    """Special function: its value by mpmath, arguments that are always tried, and ranges of those that the seed chooses.

    `at` are values by definition, where a formula has a pole or a limit; `keywords` are what its operator is called with.
    """

    value: Callable[..., Any]
    tried: tuple[tuple[float, ...], ...]
    ranges: tuple[tuple[float, float], ...]
    at: dict[tuple[float, ...], float] = field(default_factory=dict)
    keywords: dict[str, Any] = field(default_factory=dict)


class UnavailableError(Exception):
    """There is no mpmath; the message says so."""


def available() -> bool:
    """True if mpmath can be imported."""
    return importlib.util.find_spec("mpmath") is not None


def of(name: str, base: str) -> Function | None:
    """Return the special function of this name in the operator database; None for all others."""
    return _FUNCTIONS.get(name) or _FUNCTIONS.get(base)


def value(function: Function, arguments: tuple[float, ...]) -> float:
    """Return the function's value at these numbers, rounded to float64; NaN where mpmath has none.

    Raises UnavailableError without mpmath.
    """
    if arguments in function.at:
        return function.at[arguments]
    mp = _mpmath()
    try:
        found = function.value(mp, *(mp.mpf(argument) for argument in arguments))
        return float(found)
    except (ValueError, ZeroDivisionError, OverflowError, TypeError, ArithmeticError):
        return math.nan


@cache
def _mpmath() -> Any:
    if not available():
        raise UnavailableError("mpmath is not installed, which torch usually brings along")
    import mpmath

    context = mpmath.mp.clone()  # its precision is a setting of its own: others of this process keep theirs
    context.dps = _DIGITS
    return context


def _ndtr(mp: Any, x: Any) -> Any:
    return mp.erfc(-x / mp.sqrt(2)) / 2


def _log_ndtr(mp: Any, x: Any) -> Any:
    return mp.log(_ndtr(mp, x)) if x < 0 else mp.log1p(-_ndtr(mp, -x))


def _ndtri(mp: Any, p: Any) -> Any:
    return mp.sqrt(2) * mp.erfinv(2 * p - 1)


def _digamma_of(order: int) -> Callable[..., Any]:
    return lambda mp, x: mp.polygamma(order, x)


def _lgamma(mp: Any, x: Any) -> Any:
    return mp.log(abs(mp.gamma(x)))


def _multivariate(dimensions: int) -> Callable[..., Any]:
    def log_gamma(mp: Any, x: Any) -> Any:
        parts = (_lgamma(mp, x - mp.mpf(number) / 2) for number in range(dimensions))
        return mp.mpf(dimensions * (dimensions - 1)) / 4 * mp.log(mp.pi) + sum(parts)

    return log_gamma


def _zeta(mp: Any, x: Any, q: Any) -> Any:
    return mp.zeta(x, q)


def _times_log(mp: Any, x: Any, y: Any) -> Any:
    return mp.mpf(0) if x == 0 else x * mp.log(y)


def _times_log1p(mp: Any, x: Any, y: Any) -> Any:
    return mp.mpf(0) if x == 0 else x * mp.log1p(y)


def _entropy(mp: Any, x: Any) -> Any:
    return mp.mpf(0) if x == 0 else -x * mp.log(x)


def _lower_gamma(mp: Any, a: Any, x: Any) -> Any:
    return mp.gammainc(a, 0, x, regularized=True)


def _upper_gamma(mp: Any, a: Any, x: Any) -> Any:
    return mp.gammainc(a, x, regularized=True)


def _softplus(mp: Any, x: Any) -> Any:
    return mp.log1p(mp.exp(x))


def _ones(*numbers: float) -> tuple[tuple[float, ...], ...]:
    return tuple((number,) for number in numbers)


_INFINITY = math.inf
_BOTH = _ones(0.0, 1e-3, -1e-3, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 4.0, -4.0)
_FAR = _ones(6.0, -6.0, 9.0, -9.0, 12.0, -12.0)
_POSITIVE = _ones(1e-3, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 30.0)
#: Poles lie at 0 and at every negative whole number; between them the function is far from its asymptote.
_GAMMAS = _ones(0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 8.0, 30.0, -0.5, -1.5, -2.25, -3.75, 100.0)
_PROBABILITIES = _ones(2.0**-24, 2.0**-14, 1e-3, 0.0625, 0.25, 0.5, 0.75, 0.96875)
_PLAIN = ((-6.0, 6.0),)
_RIGHT = ((0.1, 25.0),)

_FUNCTIONS: dict[str, Function] = {
    "erf": Function(lambda mp, x: mp.erf(x), _BOTH, _PLAIN, {(_INFINITY,): 1.0, (-_INFINITY,): -1.0}),
    "erfc": Function(lambda mp, x: mp.erfc(x), _BOTH + _FAR, _PLAIN, {(_INFINITY,): 0.0, (-_INFINITY,): 2.0}),
    "erfinv": Function(
        lambda mp, x: mp.erfinv(x), _ones(0.0, 1e-3, 0.5, -0.5, 0.875, -0.875, 0.984375, -0.984375), ((-0.95, 0.95),),
        {(1.0,): _INFINITY, (-1.0,): -_INFINITY},
    ),
    "special.erfcx": Function(
        lambda mp, x: mp.exp(x * x) * mp.erfc(x), _BOTH + _ones(6.0, 12.0, 50.0, 100.0, 1000.0, -6.0), ((-5.0, 40.0),)
    ),
    "special.ndtr": Function(_ndtr, _BOTH + _FAR, ((-12.0, 8.0),), {(_INFINITY,): 1.0, (-_INFINITY,): 0.0}),
    "special.log_ndtr": Function(_log_ndtr, _BOTH + _FAR + _ones(-40.0), ((-30.0, 8.0),)),
    "special.ndtri": Function(_ndtri, _PROBABILITIES, ((0.01, 0.99),), {(0.0,): -_INFINITY, (1.0,): _INFINITY}),
    "special.entr": Function(
        _entropy, _ones(0.0, 1e-3, 0.25, 0.5, 1.0, 2.0, 30.0), ((0.01, 20.0),), {(-1.0,): -_INFINITY}
    ),
    "digamma": Function(_digamma_of(0), _GAMMAS, ((-4.9, 30.0),), {(0.0,): -_INFINITY, (_INFINITY,): _INFINITY}),
    "lgamma": Function(
        _lgamma, _GAMMAS + _ones(1e-3, -1e-3), ((-4.9, 60.0),),
        {(0.0,): _INFINITY, (-1.0,): _INFINITY, (-3.0,): _INFINITY, (_INFINITY,): _INFINITY, (-_INFINITY,): _INFINITY},
    ),
    **{
        f"polygamma.polygamma_n_{order}": Function(
            _digamma_of(order), _POSITIVE, _RIGHT, keywords={"n": order}
        ) for order in range(1, 5)
    },
    "polygamma.polygamma_n_0": Function(_digamma_of(0), _POSITIVE, _RIGHT, keywords={"n": 0}),
    "special.polygamma.special_polygamma_n_0": Function(_digamma_of(0), _POSITIVE, _RIGHT, keywords={"n": 0}),
    **{
        f"mvlgamma.mvlgamma_p_{dimensions}": Function(
            _multivariate(dimensions), _ones(2.5, 3.0, 4.5, 8.0, 30.0, 100.0), ((2.5, 50.0),),
            keywords={"p": dimensions},
        ) for dimensions in (1, 3, 5)
    },
    "special.zeta": Function(
        _zeta, ((1.0625, 1.0), (1.5, 0.5), (2.0, 1.0), (3.0, 2.5), (4.0, 0.125), (8.0, 9.0), (30.0, 1.0), (30.0, 2.0)),
        ((1.2, 20.0), (0.5, 20.0)), {(1.0, 1.0): _INFINITY, (_INFINITY, 1.0): 1.0, (_INFINITY, 2.0): 0.0},
    ),
    "i0": Function(lambda mp, x: mp.besseli(0, x), _BOTH + _FAR + _ones(30.0, 80.0), ((-20.0, 20.0),)),
    "special.i1": Function(lambda mp, x: mp.besseli(1, x), _BOTH + _FAR + _ones(30.0, 80.0), ((-20.0, 20.0),)),
    "special.i0e": Function(
        lambda mp, x: mp.besseli(0, x) * mp.exp(-abs(x)), _BOTH + _FAR + _ones(100.0, 1000.0), ((-40.0, 40.0),)
    ),
    "special.i1e": Function(
        lambda mp, x: mp.besseli(1, x) * mp.exp(-abs(x)), _BOTH + _FAR + _ones(100.0, 1000.0), ((-40.0, 40.0),)
    ),
    "special.modified_bessel_i0": Function(lambda mp, x: mp.besseli(0, x), _BOTH + _FAR, ((-15.0, 15.0),)),
    "special.modified_bessel_i1": Function(lambda mp, x: mp.besseli(1, x), _BOTH + _FAR, ((-15.0, 15.0),)),
    "special.modified_bessel_k0": Function(lambda mp, x: mp.besselk(0, x), _POSITIVE, _RIGHT, {(0.0,): _INFINITY}),
    "special.modified_bessel_k1": Function(lambda mp, x: mp.besselk(1, x), _POSITIVE, _RIGHT, {(0.0,): _INFINITY}),
    "special.scaled_modified_bessel_k0": Function(
        lambda mp, x: mp.besselk(0, x) * mp.exp(x), _POSITIVE + _ones(200.0), _RIGHT, {(0.0,): _INFINITY}
    ),
    "special.scaled_modified_bessel_k1": Function(
        lambda mp, x: mp.besselk(1, x) * mp.exp(x), _POSITIVE + _ones(200.0), _RIGHT, {(0.0,): _INFINITY}
    ),
    "special.bessel_j0": Function(lambda mp, x: mp.besselj(0, x), _BOTH + _FAR, ((-20.0, 20.0),)),
    "special.bessel_j1": Function(lambda mp, x: mp.besselj(1, x), _BOTH + _FAR, ((-20.0, 20.0),)),
    "special.bessel_y0": Function(lambda mp, x: mp.bessely(0, x), _POSITIVE, _RIGHT, {(0.0,): -_INFINITY}),
    "special.bessel_y1": Function(lambda mp, x: mp.bessely(1, x), _POSITIVE, _RIGHT, {(0.0,): -_INFINITY}),
    "special.spherical_bessel_j0": Function(
        lambda mp, x: mp.mpf(1) if x == 0 else mp.sin(x) / x, _BOTH + _FAR, ((-20.0, 20.0),)
    ),
    "special.airy_ai": Function(lambda mp, x: mp.airyai(x), _BOTH + _ones(6.0, -6.0, 9.0, -9.0), ((-9.0, 8.0),)),
    "sigmoid": Function(
        lambda mp, x: 1 / (1 + mp.exp(-x)), _BOTH + _FAR + _ones(-40.0, -80.0), ((-30.0, 30.0),),
        {(_INFINITY,): 1.0, (-_INFINITY,): 0.0},
    ),
    "nn.functional.softplus": Function(_softplus, _BOTH + _FAR, ((-12.0, 12.0),)),
    "xlogy": Function(
        _times_log, ((0.0, 0.0), (0.0, 2.0), (1.0, 1.0), (2.0, 0.125), (3.0, 9.0), (-2.5, 30.0)), ((-5.0, 5.0), (0.1, 20.0)),
        {(1.0, 0.0): -_INFINITY},
    ),
    "special.xlog1py": Function(
        _times_log1p, ((0.0, -1.0), (0.0, 2.0), (1.0, 2.0**-20), (2.0, -0.5), (3.0, 9.0), (-2.5, 30.0)),
        ((-5.0, 5.0), (-0.9, 20.0)), {(1.0, -1.0): -_INFINITY},
    ),
    "igamma": Function(
        _lower_gamma, ((0.5, 0.125), (0.5, 4.0), (1.0, 1.0), (3.0, 0.5), (3.0, 8.0), (30.0, 28.0), (4.0, 40.0)),
        ((0.5, 10.0), (0.1, 15.0)), {(2.0, 0.0): 0.0, (2.0, _INFINITY): 1.0},
    ),
    "igammac": Function(
        _upper_gamma, ((0.5, 0.125), (0.5, 4.0), (1.0, 1.0), (3.0, 0.5), (3.0, 8.0), (30.0, 28.0), (4.0, 40.0)),
        ((0.5, 10.0), (0.1, 15.0)), {(2.0, 0.0): 1.0, (2.0, _INFINITY): 0.0},
    ),
    "expm1": Function(lambda mp, x: mp.expm1(x), _BOTH + _ones(1e-6, -1e-6, 12.0, -12.0), _PLAIN),
    "log1p": Function(lambda mp, x: mp.log1p(x), _ones(0.0, 1e-6, -1e-6, 0.5, -0.5, 1.0, 30.0, -0.96875), ((-0.9, 30.0),)),
}  # fmt: skip


def names() -> Sequence[str]:
    """Return the names of all of them, as in the operator database."""
    return tuple(_FUNCTIONS)
