"""Metrics as text that Prometheus and OpenMetrics readers take."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from readiness.rendering.text import clean

Labels = Mapping[str, str]


@dataclass(slots=True)
class Family:
    """All samples of one name. Only gauges: node_exporter's reader knows none of the types that OpenMetrics added."""

    name: str
    help: str
    samples: dict[str, float] = field(default_factory=dict)

    def add(self, value: float, **labels: object) -> None:
        """A sample; of two with the same labels the first one stays."""
        self.samples.setdefault(_labels({name: clean(text, 300) for name, text in labels.items()}), value)

    @property
    def lines(self) -> Iterator[str]:
        """Return the samples as text."""
        if self.samples:
            yield f"# HELP {self.name} {self.help}"
            yield f"# TYPE {self.name} gauge"
            for labels, value in self.samples.items():
                yield f"{self.name}{labels} {_number(value)}"


def metrics_text(families: Iterable[Family]) -> str:
    """Return all samples with their help and the end mark."""
    return "\n".join([line for family in families for line in family.lines] + ["# EOF\n"])


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items()) + "}"


def _escaped(text: str) -> str:
    return re.sub(r'([\\"])', r"\\\1", text)


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value) if value != int(value) or abs(value) > 1e15 else str(int(value))
