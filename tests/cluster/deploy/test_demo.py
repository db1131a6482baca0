"""Where the demo keeps its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lookalike.cluster.deploy.demo import sample_folder, store_folder


def test_store_folder_is_one_per_catalogue_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "photos").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    first = store_folder(tmp_path, tmp_path / "a" / "photos")
    assert first == store_folder(tmp_path, Path("a/photos")) == store_folder(tmp_path, Path("link/photos"))
    assert first != store_folder(tmp_path, tmp_path / "b" / "photos")
    assert first.parent == tmp_path


def test_sample_folder_is_one_per_number_of_images(tmp_path: Path) -> None:
    assert sample_folder(tmp_path, 40) != sample_folder(tmp_path, 41)
