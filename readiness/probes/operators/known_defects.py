"""Known defects of PyTorch's own kernels, with the public report and the builds in which they were seen.

They excuse no device. Where the CPU is what computes (the device is the CPU, or a simulated one made of it), such a result
is counted as a known defect and told as one; every other device is judged against float64 as if the CPU were right. What
is `everywhere` is a formula of PyTorch's own, which every device shares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from readiness.accelerators.base import Accelerator
from readiness.numerics import name_of
from readiness.probes.operators.op_entry import Entry
from readiness.probes.operators.outcomes import FailedError, Outcome, Phase

#: What is special about calls, in words that start what rows say of them: see `relations` and `sample_variants`.
PARTS = "as the sum of two parts"
INTO_OTHER_MEMORY = "with memory to write to that lies otherwise"
INTO_STRIDED_MEMORY = "with strided memory to write to"
ONE_FEATURE, FEW = "on rows of one value", "on few elements"
AT_VALUES, BESIDE_WHOLE = "at knees and extremes", "on whole numbers beside floats"
CONTRIBUTIONS = "with 600 contributions to one row"
ARGUMENTS = "with arguments on sizes one over a tile"
ON_ALL_THREADS = "on all threads"
AT_KNOWN_VALUES, DIFFERENCES = "at values that mpmath knows", "against a difference quotient"
_PYTORCH = "https://github.com/pytorch/pytorch/issues/"


@dataclass(frozen=True, slots=True)
class KnownDefect:
    """Known defect of PyTorch: operators, circumstance, and report.

    One of `where` starts the words for the circumstance ("" is a plain call, None any); `phase` is None for all. `builds`
    are the versions of torch on which it was seen; from `mended` on it is excused no more. `outcome` is MISSING for what the
    database claims and PyTorch refuses.
    """

    operators: frozenset[str]
    what: str
    report: str
    builds: str
    where: tuple[str, ...] | None = ("",)
    phase: Phase | None = None
    dtypes: frozenset[str] | None = None
    everywhere: bool = False
    outcome: Outcome = Outcome.WRONG
    mended: str = ""

    def covers(self, entry: Entry, dtype: torch.dtype, where: str, phase: Phase | None = None) -> bool:
        """True if this defect applies to such a call, of any phase if none is given."""
        if not entry.within(self.operators) or (self.dtypes is not None and name_of(dtype) not in self.dtypes):
            return False
        if self.mended and torch.__version__ >= self.mended:
            return False
        if phase is not None and self.phase is not None and phase is not self.phase:
            return False
        return self.where is None or any(where.startswith(words) if words else not where for words in self.where)

    def __str__(self) -> str:
        """Return a text such as `gradients at NaN depend on the place (https://..., seen in torch 2.13.0)`."""
        return f"{self.what} ({self.report or 'no public report found'}; seen in torch {self.builds})"


def equal_values(value: float) -> str:
    """Return the description of a call whose inputs are all one value: `on nan in every place`."""
    return f"on {value:g} in every place"


def of_call(entry: Entry, dtype: torch.dtype, where: str) -> KnownDefect | None:
    """Return a known defect of the CPU's kernels in such a call, which cannot serve as reference; else None."""
    return next((defect for defect in KNOWN if defect.covers(entry, dtype, where)), None)


def excusing(accelerator: Accelerator, entry: Entry, dtype: torch.dtype, failure: FailedError) -> KnownDefect | None:
    """Return the known defect that a failure shows on this device; None if it is the device's own."""
    hosted = accelerator.stack.host_backed
    found = (
        defect for defect in KNOWN
        if defect.outcome is failure.outcome and defect.covers(entry, dtype, failure.where, failure.phase)
    )  # fmt: skip
    return next((defect for defect in found if defect.everywhere or hosted), None)


_SIXTEEN = frozenset({"bfloat16", "float16"})
#: The builds that were tried, all of which show the defect.
_FROM_2_6 = "2.6.0, 2.8.0, 2.10.0, 2.13.0"
_WHOLE = frozenset({"int64", "int32", "int16", "int8", "uint8"})

KNOWN = (
    KnownDefect(
        frozenset({
            "nn.functional.celu", "nn.functional.elu", "nn.functional.hardshrink", "nn.functional.hardswish",
            "nn.functional.hardtanh", "nn.functional.relu6", "nn.functional.selu", "nn.functional.softshrink",
        }),
        "the gradient at NaN is another in whole vectors than in the rest", _PYTORCH + "195075", _FROM_2_6,
        where=(equal_values(math.nan),), phase=Phase.BACKWARD,
    ),
    KnownDefect(
        frozenset({"logit"}), "the gradient at NaN, and at -0, is another in whole vectors than in the rest",
        _PYTORCH + "195075", _FROM_2_6, where=(equal_values(math.nan), equal_values(-0.0)), phase=Phase.BACKWARD,
    ),
    KnownDefect(
        frozenset({"cosh", "sinh"}), "overflow from 88.7 on in whole vectors, and from 89.4 on in the rest",
        _PYTORCH + "48641", _FROM_2_6, where=(equal_values(88.8), equal_values(-88.8)),
    ),
    KnownDefect(
        frozenset({"nn.functional.gelu"}), "leaves memory unwritten that is not dense", "", _FROM_2_6,
        where=(INTO_STRIDED_MEMORY,),
    ),
    KnownDefect(
        frozenset({"nn.functional.group_norm", "nn.functional.layer_norm"}), "rows of one value are not normalised to zero",
        _PYTORCH + "188375", _FROM_2_6, where=(ONE_FEATURE,),
    ),
    KnownDefect(
        frozenset({"narrow_copy", "nn.functional.avg_pool3d"}), "write memory that is not dense as if it were",
        _PYTORCH + "84577", _FROM_2_6,
        where=(INTO_OTHER_MEMORY,),
    ),
    KnownDefect(
        frozenset({"optim.SGD.fused", "optim.SGD.fused.found_inf"}),
        "leaves whole vectors of parameters unchanged and spoils their momentum", _PYTORCH + "191763", _FROM_2_6,
        where=None, dtypes=_SIXTEEN,
    ),
    KnownDefect(
        frozenset({"special.ndtr"}), "loses the lower tail, as one plus an error function that is nearly -1",
        _PYTORCH + "192295", _FROM_2_6, where=("", FEW, AT_VALUES, AT_KNOWN_VALUES), everywhere=True,
    ),
    KnownDefect(
        frozenset({"__getitem__", "index_put_.accumulate", "nn.functional.embedding"}),
        "adds up in 16 bits: of more than 256 contributions to one row the rest is lost in bfloat16", "", _FROM_2_6,
        where=(CONTRIBUTIONS,), dtypes=_SIXTEEN,
    ),
    KnownDefect(
        frozenset({"multinomial.vocabulary"}), "draws tokens of weight 0 now and then", _PYTORCH + "192812", "2.6.0, 2.13.0",
        where=None, dtypes=frozenset({"float16"}),
    ),
    KnownDefect(
        frozenset({"special.zeta"}), "gives NaN where the first argument is infinite, instead of the limit 0",
        _PYTORCH + "138464", _FROM_2_6, where=(AT_KNOWN_VALUES,), everywhere=True,
    ),
    KnownDefect(
        frozenset({"i0", "special.i1", "special.modified_bessel_i0", "special.modified_bessel_i1"}),
        "overflow where the exponential function does, before they would themselves", _PYTORCH + "192293", _FROM_2_6,
        where=(AT_VALUES,), everywhere=True,
    ),
    KnownDefect(
        frozenset({"igammac"}), "loses digits for a small first argument, as one minus what is nearly one", "", _FROM_2_6,
        where=(AT_VALUES, BESIDE_WHOLE), everywhere=True,
    ),
    KnownDefect(
        frozenset({"ldexp"}), "the gradient is 0 for negative whole exponents, whose power of two is taken in whole numbers",
        _PYTORCH + "187460", "2.13.0", where=(DIFFERENCES,), phase=Phase.BACKWARD, everywhere=True,
    ),
    KnownDefect(
        frozenset({"polar"}), "the gradient of the absolute value is 0 at 0, and the function changes", "", _FROM_2_6,
        where=(DIFFERENCES,), phase=Phase.BACKWARD, everywhere=True,
    ),
    KnownDefect(
        frozenset({"ldexp"}), "gives NaN for 0 times a power of two that leaves the range", _PYTORCH + "153069",
        "2.6.0, 2.13.0", where=(AT_VALUES, BESIDE_WHOLE), dtypes=_SIXTEEN, everywhere=True,
    ),
    KnownDefect(
        frozenset({"nn.functional.softshrink"}), "the gradient at 0 is 0 where the threshold is 0, and the function changes",
        "", _FROM_2_6, where=(DIFFERENCES,), phase=Phase.BACKWARD, everywhere=True,
    ),
    KnownDefect(
        frozenset({"special.log_ndtr"}), "the gradient of the far tail has three digits in float32", "", _FROM_2_6,
        where=(AT_VALUES,), phase=Phase.BACKWARD, everywhere=True,
    ),
    KnownDefect(
        frozenset({"special.bessel_j0", "special.bessel_j1", "special.bessel_y0", "special.bessel_y1"}),
        "have the digits of float32 in float64", "", "2.6.0, 2.8.0, 2.13.0", where=(AT_KNOWN_VALUES,),
        dtypes=frozenset({"float64"}), everywhere=True,
    ),
    KnownDefect(
        frozenset({"logsumexp"}), "adds up in float16, which leaves its range over more than 65,504 equal elements", "",
        "2.13.0", where=(PARTS,), dtypes=frozenset({"float16"}), everywhere=True,
    ),
    KnownDefect(
        frozenset({"polygamma", "special.polygamma"}), "gives a finite number at whole numbers below 1, which are poles", "",
        "2.6.0, 2.8.0, 2.13.0", where=("", FEW), dtypes=_WHOLE, everywhere=True,
    ),
    KnownDefect(
        frozenset({"masked.logsumexp"}), "cuts off what is a whole number but for its rounding, in whole numbers", "",
        "2.6.0, 2.13.0", where=("", FEW), dtypes=_WHOLE, everywhere=True,
    ),
    KnownDefect(
        frozenset({"renorm"}), "gives gradients of NaN for complex numbers and the largest of them as norm", "",
        "2.6.0, 2.8.0, 2.13.0", phase=Phase.BACKWARD, dtypes=frozenset({"complex64", "complex128"}), everywhere=True,
    ),
    KnownDefect(
        frozenset({"matrix_exp"}), "gives NaN in 16 bits, by a formula made of other operators", "", _FROM_2_6,
        where=None, dtypes=_SIXTEEN, everywhere=True,
    ),
    KnownDefect(
        frozenset({"nn.functional.hardswish"}), "the gradient at 3 and -3 is another in whole vectors than in the rest",
        _PYTORCH + "136345", "2.6.0", where=(equal_values(3.0), equal_values(-3.0), AT_VALUES), phase=Phase.BACKWARD,
        mended="2.8.0",
    ),
    KnownDefect(
        frozenset({"nn.functional.celu", "nn.functional.elu", "nn.functional.selu"}),
        "lose the digits of small negative numbers, as an exponential less one",
        "https://github.com/pytorch/pytorch/pull/149673", "2.6.0", where=(AT_VALUES,), mended="2.8.0",
    ),
    KnownDefect(
        frozenset({"nn.functional.ctc_loss"}),
        "the gradient is that of what the probabilities were made of, not of the probabilities that it takes",
        _PYTORCH + "52241", "2.6.0", where=(DIFFERENCES,), phase=Phase.BACKWARD, everywhere=True,
    ),
    KnownDefect(
        frozenset({"lerp"}), "refuses a weight of no dimensions in another dtype",
        "https://github.com/pytorch/pytorch/pull/141117", "2.6.0", where=(ARGUMENTS,), dtypes=_SIXTEEN,
        outcome=Outcome.MISSING, mended="2.8.0",
    ),
    KnownDefect(
        frozenset({"index_fill", "masked_fill", "norm"}),
        "the database claims gradients in complex32, for which the CPU has no sum and no quotient", "", "2.6.0, 2.13.0",
        where=None, phase=Phase.BACKWARD, dtypes=frozenset({"complex32"}), outcome=Outcome.MISSING,
    ),
)  # fmt: skip
