"""What a power cut could leave of a folder, after every step of what was done to it.

``record`` notes each write, sync and change of a name that goes through ``lookalike.storage.local.disk``. ``cuts``
then gives, for each prefix of the record, the folders that the disk could hold:

- Content that was not synced is there, is lost (a name may then lead to an empty file), or is there in part.
- A name that was changed is changed back unless its folder was synced. Of the unsynced changes none, all, the first
  few, a single one, or all but one survive. A single change (a rename too) happens or does not: a journal sees to it.

Files that others wrote into the folder are noticed when the folder or they are synced.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from lookalike.storage import local
from lookalike.storage.local import Disk

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Tree = dict[str, bytes | None]
"""Contents by relative path; None is a folder."""


@dataclass(eq=False)
class _File:
    content: bytes = b""
    """When the record began."""


@dataclass(eq=False)
class _Folder:
    names: dict[str, _File | _Folder] = field(default_factory=dict)
    """When the record began."""
    live: dict[str, _File | _Folder] = field(default_factory=dict)
    """Now."""


@dataclass(frozen=True)
class _Write:
    file: _File
    offset: int
    content: bytes


@dataclass(frozen=True)
class _Sync:
    node: _File | _Folder


@dataclass(frozen=True)
class _Names:
    """One change of names: (folder, name, what it leads to now)."""

    changes: tuple[tuple[_Folder, str, _File | _Folder | None], ...]


@dataclass(frozen=True)
class _Note:
    text: str


_Step = _Write | _Sync | _Names | _Note


@dataclass(frozen=True)
class Cut:
    """One folder that a power cut could leave."""

    step: int
    last: str
    """What was done last before the cut."""
    survived: str
    """Which of the unsynced changes the disk holds all the same."""
    notes: tuple[str, ...]
    """What had been noted by then, such as acknowledgements."""
    tree: Tree

    def restore(self, folder: Path) -> None:
        """Make the folder, which is not there yet."""
        folder.mkdir(parents=True)
        for name, content in self.tree.items():
            if content is None:
                (folder / name).mkdir()
            else:
                (folder / name).write_bytes(content)


class Recording:
    """What was done to a folder since the record began."""

    def __init__(self, root: _Folder) -> None:
        self._root = root
        self._steps: list[_Step] = []

    def note(self, text: str) -> None:
        """Note something, such as that a write was acknowledged, for those who look at later cuts."""
        self._steps.append(_Note(text))

    def __len__(self) -> int:
        return len(self._steps)

    def cuts(self) -> Iterator[Cut]:
        """Give every folder that could be left, the same one only once for each step."""
        for step in range(len(self._steps) + 1):
            done = self._steps[:step]
            notes = tuple(each.text for each in done if isinstance(each, _Note))
            last = _describe(done[-1]) if done else "nothing"
            seen: list[Tree] = []
            for survived, tree in self._trees(done):
                if tree not in seen:
                    seen.append(tree)
                    yield Cut(step, last, survived, notes, tree)

    def _trees(self, done: list[_Step]) -> Iterator[tuple[str, Tree]]:
        changes, unsynced = _name_changes(done)
        for lost in _subsets(unsynced):
            survivors = [change for number, change in enumerate(changes) if number not in lost]
            names = f"all names but {[_describe(changes[each]) for each in sorted(lost)]}" if lost else "all names"
            for content in ("all", "only synced", "half of the unsynced"):
                yield f"{names}, {content} content", _tree(self._root, survivors, _contents(done, content))


def _name_changes(done: list[_Step]) -> tuple[list[_Names], list[int]]:
    """Give all changes of names, and the numbers of those that no sync of their folders has made durable."""
    changes: list[_Names] = []
    waiting: dict[int, set[_Folder]] = {}
    for step in done:
        if isinstance(step, _Names):
            waiting[len(changes)] = {folder for folder, _, _ in step.changes}
            changes.append(step)
        elif isinstance(step, _Sync) and isinstance(step.node, _Folder):
            for folders in waiting.values():
                folders.discard(step.node)
    return changes, [number for number, folders in waiting.items() if folders]


def _subsets(unsynced: list[int]) -> list[frozenset[int]]:
    """Give the choices of what is lost."""
    all_of_it = frozenset(unsynced)
    last_ones = [frozenset(unsynced[first:]) for first in range(len(unsynced) + 1)]
    single = [frozenset({each}) for each in unsynced]
    return list(dict.fromkeys([*last_ones, *single, *(all_of_it - each for each in single)]))


def _contents(done: list[_Step], kept: str) -> dict[_File, bytes]:
    """Give what the files that were written hold."""
    synced: dict[_File, bytes] = {}
    written: dict[_File, bytes] = {}
    for step in done:
        if isinstance(step, _Write):
            before = written.get(step.file, step.file.content)
            synced.setdefault(step.file, step.file.content)
            before = before.ljust(step.offset, b"\0")
            written[step.file] = before[: step.offset] + step.content + before[step.offset + len(step.content) :]
        elif isinstance(step, _Sync) and isinstance(step.node, _File):
            synced[step.node] = written.get(step.node, step.node.content)
    if kept == "all":
        return written
    if kept == "only synced":
        return synced
    return {
        file: content if content == synced[file] else content[: len(content) // 2] for file, content in written.items()
    }


def _tree(root: _Folder, changes: list[_Names], contents: dict[_File, bytes]) -> Tree:
    names: dict[_Folder, dict[str, _File | _Folder]] = {}
    for change in changes:
        for folder, name, node in change.changes:
            present = names.setdefault(folder, dict(folder.names))
            if node is None:
                present.pop(name, None)
            else:
                present[name] = node
    tree: Tree = {}

    def walk(folder: _Folder, prefix: str) -> None:
        for name, node in names.get(folder, folder.names).items():
            if isinstance(node, _Folder):
                tree[prefix + name] = None
                walk(node, f"{prefix}{name}/")
            else:
                tree[prefix + name] = contents.get(node, node.content)

    walk(root, "")
    return tree


def _describe(step: _Step) -> str:
    match step:
        case _Write(_, offset, content):
            return f"write of {len(content)} bytes at {offset}"
        case _Sync(node):
            return "sync of a folder" if isinstance(node, _Folder) else "sync of a file"
        case _Names(changes):
            return ", ".join(f"{'remove' if node is None else 'add'} {name}" for _, name, node in changes)
        case _Note(text):
            return text


class _Recorder(Disk):
    """Does each call, and records it if it is below the root."""

    def __init__(self, root: Path) -> None:
        self._path = root
        self._root = _Folder()
        self.recording = Recording(self._root)
        self._by_inode: dict[tuple[int, int], _File] = {}
        self._lock = threading.Lock()
        self._notice(self._root, root)
        self.recording._steps.clear()  # what was there before is durable
        _make_initial(self._root, root)

    def create(self, path: Path, mode: int = 0o666) -> int:
        with self._lock:
            descriptor = super().create(path, mode)
            if (folder := self._folder_of(path)) is not None:
                file = _File()
                self._by_inode[_inode(os.fstat(descriptor))] = file
                self._change((folder, path.name, file))
            return descriptor

    def write(self, descriptor: int, content: ReadableBuffer, offset: int) -> int:
        with self._lock:
            written = super().write(descriptor, content, offset)
            if (file := self._by_inode.get(_inode(os.fstat(descriptor)))) is not None:
                step = _Write(file, offset, bytes(memoryview(content).cast("B")[:written]))
                self.recording._steps.append(step)
            return written

    def fsync(self, descriptor: int, path: Path) -> None:
        with self._lock:
            super().fsync(descriptor, path)
            node: _File | _Folder | None = self._root if path == self._path else None
            folder = self._folder_of(path)
            if folder is not None:
                if path.name not in folder.live:
                    self._notice(folder, path.parent)
                node = folder.live.get(path.name)
            if isinstance(node, _Folder):
                self._notice(node, path)
            if node is not None:
                self.recording._steps.append(_Sync(node))

    def rename(self, source: Path, target: Path) -> None:
        with self._lock:
            super().rename(source, target)
            old, new = self._folder_of(source), self._folder_of(target)
            if old is not None and new is not None and source != target:
                self._change((old, source.name, None), (new, target.name, old.live[source.name]))

    def link(self, source: Path, target: Path) -> None:
        with self._lock:
            super().link(source, target)
            old, new = self._folder_of(source), self._folder_of(target)
            if old is not None and new is not None:
                self._change((new, target.name, old.live[source.name]))

    def unlink(self, path: Path) -> None:
        with self._lock:
            super().unlink(path)
            if (folder := self._folder_of(path)) is not None:
                self._change((folder, path.name, None))

    def mkdir(self, path: Path) -> None:
        with self._lock:
            super().mkdir(path)
            if (folder := self._folder_of(path)) is not None:
                self._change((folder, path.name, _Folder()))

    def _change(self, *changes: tuple[_Folder, str, _File | _Folder | None]) -> None:
        for folder, name, node in changes:
            if node is None:
                folder.live.pop(name, None)
            else:
                folder.live[name] = node
        self.recording._steps.append(_Names(changes))

    def _folder_of(self, path: Path) -> _Folder | None:
        """Give the folder that holds a name, if it is the root or below."""
        if not path.parent.is_relative_to(self._path):
            return None
        node: _File | _Folder = self._root
        at = self._path
        for part in path.parent.relative_to(self._path).parts:
            assert isinstance(node, _Folder)
            if part not in node.live:
                self._notice(node, at)
            node = node.live[part]
            at = at / part
        assert isinstance(node, _Folder)
        return node

    def _notice(self, folder: _Folder, path: Path) -> None:
        """Note what others made in a folder, and what they removed, as unsynced changes that happen now."""
        present = {each.name: each for each in path.iterdir()}
        for name in sorted(set(folder.live) - set(present)):
            self._change((folder, name, None))
        for name in sorted(set(present) - set(folder.live)):
            if present[name].is_dir():
                below = _Folder()
                self._change((folder, name, below))
                self._notice(below, present[name])
            else:
                file = _File()
                self._by_inode[_inode(present[name].stat())] = file
                self._change((folder, name, file))
                self.recording._steps.append(_Write(file, 0, present[name].read_bytes()))


def _make_initial(folder: _Folder, path: Path) -> None:
    """Take what is there now for what was there when the record began."""
    folder.names = dict(folder.live)
    for name, node in folder.names.items():
        if isinstance(node, _Folder):
            _make_initial(node, path / name)
        else:
            node.content = (path / name).read_bytes()


def _inode(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


@contextmanager
def record(root: Path) -> Iterator[Recording]:
    """Record what this process does to a folder that is there; what it holds already counts as durable."""
    recorder = _Recorder(root)
    with mock.patch.object(local, "disk", recorder), mock.patch.object(local, "_durable_folders", set()):
        yield recorder.recording
