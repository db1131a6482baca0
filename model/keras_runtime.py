"""Keras, started once and kept quiet; a model compiled by whichever backend runs it.

Importing this module imports nothing heavy; its functions import Keras, which takes many seconds.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from lookalike.model.descriptor import Features, Pixels

if TYPE_CHECKING:
    import keras

Run = Callable[[Pixels], list[Features]]


def start(threads: int) -> str:
    """Import Keras on the backend that ``KERAS_BACKEND`` names, TensorFlow by default.

    TensorFlow gets one thread per operation, because the rounding of wide convolutions differs between
    one and two (measured: 75 % of the floats of Darknet-19 at full width), and ``threads`` operations at once;
    and to take GPU memory as it needs it, not all at once. A second call changes nothing.

    Returns
    -------
    str
        The backend's name.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _stderr_held_back():
        import keras

        backend = str(keras.backend.backend())
    if backend == "tensorflow":
        _configure_tensorflow(threads)
    return backend


@contextlib.contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Keep what the backend writes to standard error while it starts, and show it only if it fails.

    TensorFlow's C++ logs lines at every start that no setting turns off, in the middle of a progress bar.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:  # raised again: whatever it is, it needs what was written
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _configure_tensorflow(threads: int) -> None:
    import tensorflow as tf

    try:
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:  # TensorFlow already runs here, with the settings of its first user
        if tf.config.threading.get_intra_op_parallelism_threads() != 1:
            warnings.warn(
                "TensorFlow was started with several threads per operation: codes may differ in single bits from "
                "those of other processes",
                RuntimeWarning,
                stacklevel=3,
            )


class Compiled:
    """A compiled feature extractor: uint8 (n, side, side, 3) to a list, one per output, of float32 (n, f).

    Each new ``n`` compiles once.
    """

    def __init__(self, step: Callable[[Any], Any]) -> None:
        self._step = step
        self._shapes: set[int] = set()

    def __call__(self, pixels: Pixels) -> list[Features]:
        """Compute the features of a batch."""
        from keras import ops

        outputs = self._step(ops.convert_to_tensor(pixels))
        self._shapes.add(len(pixels))
        return [np.asarray(ops.convert_to_numpy(y), np.float32) for y in outputs]

    @property
    def compilations(self) -> int:
        """How often it was compiled: as TensorFlow counts, or where the backend does not, by the shapes seen."""
        count = getattr(self._step, "experimental_get_tracing_count", None)
        return int(count()) if count is not None else len(self._shapes)


def compiled(model: keras.Model, backend: str) -> Compiled:
    """Compile a feature extractor, with the step from levels (0..255) to 0..1."""
    from keras import ops

    def forward(levels: Any) -> Any:
        outputs = model(ops.cast(levels, "float32") / 255, training=False)
        return outputs if isinstance(outputs, list) else [outputs]  # Keras unwraps a list of one

    if backend == "tensorflow":
        import tensorflow as tf

        step: Callable[[Any], Any] = tf.function(forward)
    elif backend == "jax":
        import jax

        step = jax.jit(forward)
    else:
        import torch

        step = torch.no_grad()(forward)

    return Compiled(step)
