"""Every check file is a module of this package, wherever it lies, so that any process can import it."""

from readiness import content

__path__ = content.folders("checks")
