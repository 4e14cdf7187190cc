"""Every report format is a module of this package, wherever it lies."""

from readiness import content

__path__ = content.folders("reports")
