"""What lookalike raises on purpose, from one root.

A wrong argument is a ``ValueError``; everything here is about the world: a photo, a store, a model, a cluster.
Each error replays its arguments when it is pickled, because errors cross processes.
"""


class LookalikeError(Exception):
    """Anything this project raises on purpose. The message says what to do."""


class UndecodableImage(LookalikeError):
    """The bytes are not a photo that we can read: the sender's fault. Argument: the reason."""


class BadCatalogue(LookalikeError):
    """The catalogue cannot be read at all (single bad rows are reported, not raised). Argument: the reason."""


class BadModel(LookalikeError):
    """A model folder or a weights file is incomplete, damaged or of another shape. Argument: the reason."""


class StoreMismatch(LookalikeError):
    """Store and model disagree on the descriptor: refuse to start. Argument: which, and how."""


class StoreUnavailable(LookalikeError):
    """The store cannot be read or written (permissions, a full disk, no such collection). Argument: the reason."""
