"""How an actor begins: what keeps it from beginning is raised the first time, and retried after that."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import ray

from lookalike.errors import LookalikeError

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 30.0


def load(build: Callable[[], None]) -> Exception | None:
    """Do the work of an actor's constructor.

    An actor whose constructor raises is given up by Ray for good, and whoever waits for it is shown a stack trace. So
    nothing is raised. One that had served before and was started again waits until the store is back.

    Returns
    -------
    Exception or None
        Why a new actor cannot do its work: for its ``ready`` to raise.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            build()
        except (LookalikeError, OSError) as error:
            if not ray.get_runtime_context().was_current_actor_reconstructed:
                return error
            logger.exception("cannot load; trying again")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
        else:
            return None
