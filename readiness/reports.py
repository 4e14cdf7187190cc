"""Package of all report formats, wherever they are."""

from readiness import package_data

__path__ = package_data.folders("reports")
