"""The category tree against a look at each path, while it grows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.actors.index.tree import Tree

NAMES = st.sampled_from(["a", "b", "ab", "Über", ""])
PATHS = st.lists(NAMES, max_size=5).map("/".join)


def is_below_any(wanted: set[str], path: str) -> bool:
    """The definition: by the path of a node, or by its bare name."""
    names = path.split("/")
    return any("/".join(names[: depth + 1]) in wanted or name in wanted for depth, name in enumerate(names))


@settings(deadline=None)
@given(st.lists(st.lists(PATHS, max_size=6), max_size=6), st.sets(PATHS | st.just("nowhere")))
def test_tree_gives_the_paths_below_each_node(batches: list[list[str]], wanted: set[str]) -> None:
    tree = Tree()
    wanted -= {""}
    paths: list[str] = []
    for batch in batches:
        fresh = [path for path in dict.fromkeys(batch) if path not in paths]
        tree.add(fresh)
        paths += fresh
        assert len(tree) == len(paths)
        for count in (len(paths), len(paths) // 2):
            expected = [is_below_any(wanted, path) for path in paths[:count]]
            assert tree.below(wanted, count).tolist() == expected


def test_tree_holds_a_node_once_however_many_paths_go_through_it() -> None:
    tree, half = Tree(), Tree()
    paths = [f"Apparel/Part {number % 19}/Group {number}" for number in range(2000)]
    tree.add(paths)
    half.add(paths[:1000])
    assert tree.below({"Apparel"}, 2000).all()
    assert tree.below({"Part 3"}, 2000).sum() == tree.below({"Apparel/Part 3"}, 2000).sum() == 2000 // 19 + 1
    assert tree.below({"Group 7", "Apparel/Part 9/Group 9", "Part 3/Group 3"}, 2000).sum() == 2
    assert half.held_bytes < tree.held_bytes < 2000 * 600


def test_tree_answers_for_the_paths_that_a_snapshot_knows() -> None:
    tree = Tree()
    tree.add(["", "a/b"])
    tree.add(["a/c", "d"])
    assert tree.below({"a", "d"}, 2).tolist() == [False, True]
    assert tree.below({"d"}, 2).tolist() == [False, False]
    assert np.flatnonzero(tree.below({"c"}, 4)).tolist() == [2]
