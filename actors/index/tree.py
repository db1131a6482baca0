"""The category tree of a shard's groups: which groups lie below a node, without a look at each.

A group is a path, `Apparel/Topwear/Shirts`; each of its beginnings is a node. A node is wanted by its path, or by its
bare name wherever it is in the tree.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lookalike.kernels import masks
from lookalike.kernels.memory import GrowableRows

# Of a name or a node: an entry of a dict, its key and its value. Of a name also the text, beside its characters.
_NODE_BYTES: Final = 140
_NAME_BYTES: Final = 190


def _numbers() -> GrowableRows:
    return GrowableRows(1, np.uint32, reserve_bytes=1 << 34)  # as many as a uint32 can number


class Tree:
    """Nodes in order of their making, so that a parent precedes its children; node 0 is the root, above all paths.

    One thread adds; others may read meanwhile, and see of the paths that are added at least those that they ask for.
    """

    def __init__(self) -> None:
        self._names = {"": 0}
        self._nodes: dict[int, int] = {}  # parent << 32 | name -> node
        self._name_bytes = 0
        # Of each node; the root's name is never wanted.
        self._parents, self._name_of = _numbers(), _numbers()
        self._node_of = _numbers()  # of each path
        for rows in (self._parents, self._name_of):
            rows.append(np.zeros((1, 1), np.uint32))

    def __len__(self) -> int:
        """How many paths have a number."""
        return len(self._node_of)

    @property
    def held_bytes(self) -> int:
        arrays = (self._parents, self._name_of, self._node_of)
        texts = _NAME_BYTES * len(self._names) + self._name_bytes
        return sum(rows.held_bytes for rows in arrays) + _NODE_BYTES * len(self._nodes) + texts

    def add(self, paths: Sequence[str]) -> None:
        """Number paths: the first one ever is 0. An empty one is no group."""
        added: list[tuple[int, int]] = []
        node_of = [self._node_of_new(path, added) if path else 0 for path in paths]
        self._node_of.append(np.array(node_of, np.uint32).reshape(-1, 1))
        if added:
            nodes = np.array(added, np.uint32)
            self._name_of.append(nodes[:, 1:])
            self._parents.append(nodes[:, :1])  # last: readers take the number of nodes from here

    def _node_of_new(self, path: str, added: list[tuple[int, int]]) -> int:
        """The node of a path; those that are missing are made and ``added``, as parent and name."""
        node = 0
        for text in path.split("/"):
            name = self._names.get(text)
            if name is None:
                name = self._names[text] = len(self._names)
                self._name_bytes += len(text)
            parent, node = node, self._nodes.get(node << 32 | name, -1)
            if node < 0:
                node = self._nodes[parent << 32 | name] = len(self._parents) + len(added)
                added.append((parent, name))
        return node

    def below(self, wanted: Collection[str], count: int) -> NDArray[np.bool_]:
        """Which of the first ``count`` paths are one of some nodes or below it: bool (count,).

        A pass over the nodes, not over texts: 1 ms for 300,000 groups, where a look at each path takes 400.
        """
        parents = self._parents.view()[:, 0]
        marks = self._named(wanted, len(parents))
        for path in wanted:
            node = self._node(path)
            if node is not None and node < len(marks):
                marks[node] = True
        masks.mark_below(parents, marks)
        below: NDArray[np.bool_] = marks[self._node_of.view()[:count, 0]]
        return below

    def _named(self, wanted: Collection[str], nodes: int) -> NDArray[np.bool_]:
        """The nodes with one of some bare names."""
        name_of = self._name_of.view()[:nodes, 0]
        names = {self._names.get(text, 0) for text in wanted} - {0}
        if not names:
            return np.zeros(nodes, bool)
        table = np.zeros(max(int(name_of.max()), *names) + 1, bool)
        table[list(names)] = True
        named: NDArray[np.bool_] = table[name_of]
        return named

    def _node(self, path: str) -> int | None:
        node = 0
        for text in path.split("/"):
            name = self._names.get(text)
            child = None if name is None else self._nodes.get(node << 32 | name)
            if child is None:
                return None
            node = child
        return node
