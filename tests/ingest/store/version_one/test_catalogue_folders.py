"""Every photo of a catalogue lies below exactly one of the folders found, and there are never too many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lookalike.ingest.store.version_one.catalogue_folders import MAX_ROOTS, CatalogueFolders, is_below

parts = st.lists(st.sampled_from(["a", "b", "ab", "c d"]), max_size=5)
photos = st.builds(lambda folders, name: "/" + "/".join([*folders, name]), parts, st.sampled_from(["1.jpg", "2.jpg"]))


@st.composite
def noted(draw: st.DrawFn) -> tuple[str, str]:
    """A photo, and an id that is the end of its path or something else."""
    photo = draw(photos)
    names = photo.split("/")
    at = draw(st.integers(1, len(names) - 1))
    return photo, draw(st.sampled_from(["/".join(names[at:]), "other"]))


@given(st.lists(noted(), max_size=30))
def test_catalogue_folders_hold_every_photo_once(rows: list[tuple[str, str]]) -> None:
    folders = CatalogueFolders()
    for photo, image_id in rows:
        folders.add(photo, image_id)
    roots = folders.roots()
    assert len(roots) <= MAX_ROOTS
    for photo, _ in rows:
        assert sum(is_below(photo, root) for root in roots) == 1


@given(st.integers(1, 3), st.booleans(), st.integers(1, 4 * MAX_ROOTS))
def test_catalogue_folders_are_never_too_many(depth: int, ids_are_ends: bool, count: int) -> None:
    folders = CatalogueFolders()
    photos = ["/" + "/".join([f"f{n}"] * depth) + f"/{n}.jpg" for n in range(count)]
    for number, photo in enumerate(photos):
        folders.add(photo, f"{number}.jpg" if ids_are_ends else "other")
    roots = folders.roots()
    assert 1 <= len(roots) <= MAX_ROOTS
    assert all(sum(is_below(photo, root) for root in roots) == 1 for photo in photos)


def test_catalogue_folders_are_those_that_were_encoded() -> None:
    folders = CatalogueFolders()
    for name in ("Apparel/Shirts/1.jpg", "Apparel/2.jpg", "3.jpg"):
        folders.add(f"/data/market/fashion/{name}", name)
    for name in ("img/4.jpg", "img/more/5.jpg"):
        folders.add(f"/data/bags/{name}", "a row of a table")
    assert folders.roots() == ["/data/bags/img", "/data/market/fashion"]
