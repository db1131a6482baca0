"""JSON of a client, read under a budget that is checked before anything is built.

2 MB of ``[[],[],...]`` became 1.3 GB of lists and errors, and stopped every request for five seconds. So the size, the
number of values and the depth are limited first, counted over the bytes, and so is the width of every object: a model
makes one error for each name that it does not know.
"""

from __future__ import annotations

import json
from typing import TypeVar

import numpy as np
import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from lookalike.errors import LookalikeError

# A search with a small photo in base64, or the most conditions with the most values that fit.
MAX_JSON_BYTES = 2**20
MAX_VALUES = 40_000  # 32 conditions of 1,000 values
MAX_DEPTH = 24  # conditions may be nested four deep, which takes 11
MAX_NAMES = 64  # weights; every other object has fewer
# Below this a body is built and refused in a millisecond, whatever it is.
FEW_VALUES = 1000

_QUOTE = ord('"')
_STEPS = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1

ModelT = TypeVar("ModelT", bound=BaseModel)


class BodyTooLargeError(LookalikeError):
    """The body exceeds the limit. Argument: the limit in bytes."""

    def __str__(self) -> str:
        limit: int = self.args[0]
        hint = "; send photos as they are, or as multipart/form-data" if limit == MAX_JSON_BYTES else ""
        return f"the body is larger than {limit:,} bytes{hint}"


def read_json(content: bytes, part: str | None = None) -> object:
    """Parse JSON; ``part`` names the part of the request that it is, if not its body.

    Raises
    ------
    BodyTooLargeError
    RequestValidationError
        It is not JSON in UTF-8, has too many values, is nested too deep, or an object has too many names.
    """
    where = ("body", part) if part else ("body",)
    if not content:
        raise invalid("Field required", *where, kind="missing")
    if len(content) > MAX_JSON_BYTES:
        raise BodyTooLargeError(MAX_JSON_BYTES)
    opening = content.count(b"[") + content.count(b"{")
    many = opening + content.count(b",") > FEW_VALUES
    if many or opening > MAX_DEPTH:
        values, depth = _measure(content)
        if values > MAX_VALUES:
            raise invalid(f"the JSON has more than {MAX_VALUES:,} values", *where)
        if depth > MAX_DEPTH:
            raise invalid(f"the JSON is nested more than {MAX_DEPTH} deep", *where)
    parsed = _parse(content, part)
    if many and _widest(parsed) > MAX_NAMES:
        raise invalid(f"an object in the JSON has more than {MAX_NAMES} names", *where)
    return parsed


def validate(model: type[ModelT], value: object, part: str | None = None) -> ModelT:
    """Make a model of what was parsed.

    Raises
    ------
    RequestValidationError
        The value is not one of the model's.
    """
    try:
        return model.model_validate(value, from_attributes=True)
    except ValidationError as error:
        where = ("body", part) if part and not isinstance(value, dict) else ("body",)
        errors = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**one, "loc": (*where, *one["loc"])} for one in errors]) from None


def invalid(message: str, *where: str, kind: str = "value_error") -> RequestValidationError:
    """Say what is wrong with a request, and where, as a model would."""
    return RequestValidationError([{"type": kind, "loc": where, "msg": message}])


def _parse(content: bytes, part: str | None) -> object:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        pass
    try:  # lone surrogates and NaN: the fields that may not hold them say so
        return json.loads(content.decode())
    except ValueError as error:  # json's own, or a number of more digits than Python reads
        what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        message = f"the part {part!r}: {what}" if part else what
        detail = {"type": "json_invalid", "loc": ("body",), "msg": "JSON decode error", "ctx": {"error": message}}
        raise RequestValidationError([detail]) from None


def _measure(content: bytes) -> tuple[int, int]:
    """Count the values, and how deep they are nested, outside of texts. Where it is not JSON: up to the first error."""
    unescaped = content.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    characters = np.frombuffer(unescaped, np.uint8)
    outside = (np.cumsum(characters == _QUOTE, dtype=np.uint8) & 1) == 0
    steps = _STEPS[characters] * outside
    values = 1 + np.count_nonzero(outside & (characters == ord(","))) + np.count_nonzero(steps > 0)
    return int(values), int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _widest(value: object) -> int:
    widest = 0
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            widest = max(widest, len(item))
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return widest
