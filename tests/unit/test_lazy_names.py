"""Names that are imported when first used: each is there, and what is not there is an AttributeError."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

import readiness
from readiness import rendering
from readiness.lazy_names import lazy_names


@pytest.mark.parametrize("package", [readiness, rendering], ids=lambda package: package.__name__)
def test_each_public_name_has_its_place_and_no_other_has(package: ModuleType) -> None:
    assert set(package.__all__) - {"__version__"} == set(vars(package)["_PLACES"])
    with pytest.raises(AttributeError, match=rf"module '{package.__name__}' has no attribute 'nothing'"):
        _ = package.nothing


def test_a_name_is_looked_up_once_whether_it_is_a_name_another_name_or_a_module() -> None:
    namespace = {"__name__": "readiness.documents"}
    get = lazy_names(namespace, {"read": "toml", "other": "toml:read", "it": "toml:"})
    assert get("it") is sys.modules["readiness.documents.toml"]
    assert get("read") is get("other") is get("it").read
    assert namespace.keys() == {"__name__", "it", "read", "other"}
