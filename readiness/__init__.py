"""readiness: can this accelerator train our model, can it serve it, and if not, what stands in the way?

What the author of a check imports is here; all else is the engine.
"""

from readiness.accelerators.base import Accelerator
from readiness.check_registry import Scope, Skip, check
from readiness.datamodel import Cost, Measurement, Note, Row, Yield

__version__ = "0.1.0"

__all__ = ["Accelerator", "Cost", "Measurement", "Note", "Row", "Scope", "Skip", "Yield", "__version__", "check"]
