"""Every report format is a module of this package, wherever it lies."""

from readiness import package_data

__path__ = package_data.folders("reports")
