"""Package of all check files, wherever they are, so that any process can import them."""

from readiness import package_data

__path__ = package_data.folders("checks")
