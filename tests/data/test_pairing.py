"""Masks find their images by name."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sammit.data.formats import stem_of
from sammit.data.pairing import pair


def _pair(images: list[str], masks: list[str]) -> tuple[dict[str, str | None], list[str]]:
    pairs, problems = pair([Path(name) for name in images], [Path(name) for name in masks])
    return {image.name: mask.name if mask else None for image, mask in pairs}, problems


def test_equal_and_continued_stems() -> None:
    pairs, problems = _pair(["Image_01L.jpg", "b.nii.gz"], ["Image_01L_1stHO.png", "b-seg.nii"])
    assert pairs == {"Image_01L.jpg": "Image_01L_1stHO.png", "b.nii.gz": "b-seg.nii"} and not problems


def test_a_number_is_not_continued_by_a_digit() -> None:
    pairs, problems = _pair(["img1.png", "img10.png"], ["img10_x.png"])
    assert pairs == {"img1.png": None, "img10.png": "img10_x.png"} and not problems


def test_the_longest_stem_wins() -> None:
    assert _pair(["a.png", "a_1.png"], ["a_1_seg.png", "a_seg.png"])[0] == {
        "a.png": "a_seg.png",
        "a_1.png": "a_1_seg.png",
    }


def test_strays_and_doubles_are_named() -> None:
    _, problems = _pair(["a.png", "a.jpg"], ["a.png", "a_2.png", "z.png"])
    assert [line.split(":")[0] for line in problems] == ["a.jpg", "a_2.png", "z.png"]


@given(st.sets(st.from_regex(r"[a-z0-9]{1,4}(_[a-z0-9]{1,3})?", fullmatch=True), min_size=1, max_size=8))
def test_each_mask_of_one_suffix_finds_its_image(stems: set[str]) -> None:
    pairs, problems = pair([Path(f"{s}.jpg") for s in sorted(stems)], [Path(f"{s}-mask.png") for s in sorted(stems)])
    assert not problems
    assert all(mask is not None and stem_of(mask) == f"{stem_of(image)}-mask" for image, mask in pairs)
