"""Rehearsals: the checks of a profile run on simulated chips, each with one planted defect, and on healthy ones.

They show what the instrument can see, with the code of a real run. They are no measurement of any product.
"""

from readiness.rehearsal.detection_matrix import DetectionMatrix
from readiness.rehearsal.plan import Request
from readiness.rehearsal.run import Rehearsal, rehearse

__all__ = ["DetectionMatrix", "Rehearsal", "Request", "rehearse"]
