"""What version 0.1 left on a disk, read once more for ``upgrade``."""
