"""What lookalike raises on purpose, from one root.

A wrong argument is a ``ValueError``; everything here is about the world: a photo, a store, a model, a cluster.
Each error replays its arguments when it is pickled, because errors cross processes. No message holds a
credential or the query string of a signed URL: messages end in logs and in answers.
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


class NotFound(LookalikeError):
    """There is no such file or object. Argument: which."""


class Conflict(LookalikeError):
    """Somebody else wrote first: read again, decide again. Argument: what is there instead of what was expected."""


class TooLarge(LookalikeError):
    """A file, an object or an answer is larger than the caller takes. Argument: which, and the limit."""


class StorageUnavailable(LookalikeError):
    """Files or objects cannot be read or written now (permissions, network, no bucket), after all retries: HTTP 503.

    Argument: which, why, and what to do.
    """


class DiskFull(StorageUnavailable):
    """No space or no quota is left: HTTP 507. Argument: which file could not be written."""


class StoreUnavailable(StorageUnavailable):
    """The store as such cannot be used (no such collection, damaged manifest). Argument: the reason."""
