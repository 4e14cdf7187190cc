"""Texts of limited size: never longer, nothing cut in two, what is missing counted."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from readiness.rendering import Section, fit

SECTIONS = st.lists(
    st.tuples(st.lists(st.integers(1, 400), max_size=20), st.floats(0, 1), st.none() | st.integers(0, 5)), max_size=6
)


@given(SECTIONS, st.integers(0, 5000))
def test_it_fits_and_every_part_is_there_or_counted(sections: list[tuple[list[int], float, int | None]], longest: int) -> None:
    made = [
        Section(f"things{n}", [partial(str, f"<{n}.{i}{'é' * size}>\n") for i, size in enumerate(sizes)], share, f"# {n}\n", unfolded)
        for n, (sizes, share, unfolded) in enumerate(sections)
    ]
    text, left_out = fit(made, longest)
    assert len(text.encode()) <= longest
    assert text.count("<details>") == text.count("</details>")
    for n, section in enumerate(made):
        there = sum(part() in text for part in section.parts)
        gone = len(section.parts) - there
        assert (f"{gone} of {len(section.parts)} things{n}" in left_out) is (gone > 0)
        assert (f"# {n}\n" in text) is (there > 0)
        assert all(part() in text for part in section.parts[:there])  # the first ones


def test_what_one_section_does_not_need_the_next_ones_may_take() -> None:
    small = Section("small", [partial(str, "a" * 10)], 0.5)
    large = Section("large", [partial(str, "b" * 80)], 0.4)
    assert fit([small, large], 100) == ("a" * 10 + "b" * 80, [])
    assert fit([large, small], 100) == ("a" * 10, ["1 of 1 large"])


def test_parts_that_have_no_room_are_not_made() -> None:
    made = []

    def part(number: int) -> str:
        made.append(number)
        return "x" * 60

    _, left_out = fit([Section("parts", [partial(part, number) for number in range(1000)], 1.0)], 100)
    assert made == [0, 1]
    assert left_out == ["999 of 1000 parts"]
