"""Every check file is a module of this package, wherever it lies, so that any process can import it."""

from readiness import package_data

__path__ = package_data.folders("checks")
