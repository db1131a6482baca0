"""What a model makes: the descriptor's parts, their sizes and weights, and what identifies them.

Reading a spec costs no TensorFlow import: a store, a shard or the command line can do it.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from lookalike.errors import BadModel
from lookalike.model.files import read_bytes

FORMAT: Final = 1
"""The newest format of a model folder that this version reads; it reads every one from 1 on."""

WORD_BITS = 64
MAX_LONG_BITS = 8192
SPEC_FILE = "model.json"
MAX_SPEC_BYTES = 1 << 20
COLOUR_SOURCE = "colour"

_MAX_PROBLEMS = 5  # named in one message
_MAX_FORMAT = 2**31 - 1  # a larger number is damage, and Python refuses to print one of thousands of digits

Bits = Annotated[int, Field(gt=0, multiple_of=WORD_BITS)]
Backbone = Literal["darknet19", "googlenet"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]


class PoolSource(NamedTuple):
    """Which average pools of which layer: one per channel, or one per channel and cell of a grid."""

    layer: str
    rows: int = 1
    columns: int = 1


def parse_source(text: str) -> PoolSource:
    """Read ``conv8`` (one mean per channel) or ``conv8@2x2`` (one per channel and quarter of the photo)."""
    match = re.fullmatch(r"([a-z]\w*)(?:@([1-9])x([1-9]))?", text)
    if match is None:
        raise ValueError(f"a source is written layer or layer@2x2, not {text!r}")
    layer, rows, columns = match.groups()
    return PoolSource(layer, int(rows or 1), int(columns or 1))


class ComponentSpec(BaseModel):
    """A named part of the long code.

    ``weight`` is in hundredths: 100 counts each differing bit once, 250 two and a half times, 0 not at all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    source: str = Field(description="`colour`, a layer, or a layer and its grid: conv8@2x2.")
    bits: Bits
    weight: int = Field(
        ge=0, le=1000, description="Hundredths: 100 counts each differing bit of this part once in the long distance."
    )

    @model_validator(mode="after")
    def _source_parses(self) -> Self:
        parse_source(self.source)
        return self


class ModelSpec(BaseModel):
    """The descriptor of one model. The long code is its components in order, each a whole number of words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    name: Name
    version: Name
    backbone: Backbone
    width: float = Field(gt=0, le=4, description="Multiplies the filters of the published network.")
    input_px: int = Field(ge=32, le=1024, description="Side of the square photo that the network takes.")
    short_bits: Annotated[Bits, Field(le=256)]
    components: tuple[ComponentSpec, ...] = Field(min_length=1)
    arrays_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of thresholds and network parameters.")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        names = [c.name for c in self.components]
        if len(set(names)) != len(names):
            raise ValueError(f"component names must differ: {', '.join(names)}")
        if self.long_bits > MAX_LONG_BITS:
            raise ValueError(f"a long code has at most {MAX_LONG_BITS} bits, not {self.long_bits}")
        if self.short_bits > self.long_bits:
            raise ValueError("the short code is chosen from the long one and cannot be longer")
        return self

    @property
    def long_bits(self) -> int:
        """Bits of the long code."""
        return sum(c.bits for c in self.components)

    @property
    def short_words(self) -> int:
        """Words (uint64) of the short code."""
        return self.short_bits // WORD_BITS

    @property
    def long_words(self) -> int:
        """Words (uint64) of the long code."""
        return self.long_bits // WORD_BITS

    @property
    def component_words(self) -> tuple[int, ...]:
        """Words (uint64) of each component, in order."""
        return tuple(c.bits // WORD_BITS for c in self.components)

    @property
    def weights(self) -> tuple[int, ...]:
        """Default weight of each component, in order, in hundredths: 100 counts each differing bit once."""
        return tuple(c.weight for c in self.components)

    @property
    def layer_sources(self) -> tuple[str, ...]:
        """The sources that the network computes, in the order of their components."""
        return tuple(c.source for c in self.components if c.source != COLOUR_SOURCE)

    def digest(self) -> str:
        """Identify the codes: two models of one digest make the same codes from the same pixels.

        Name, version and weights are left out: they change no stored bit. Codes of different digests must
        never be compared, so a store keeps the digest and refuses another.

        Returns
        -------
        str
            SHA-256 in hexadecimal.
        """
        parts = self.model_dump(include={"backbone", "width", "input_px", "short_bits", "arrays_sha256"})
        parts["components"] = [[c.name, c.source, c.bits] for c in self.components]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the spec of a model folder, and nothing else of it.

        Raises
        ------
        BadModel
            There is no spec, or it does not validate.
        """
        path = Path(folder) / SPEC_FILE
        return cls.parse(read_bytes(path, MAX_SPEC_BYTES), path)

    @classmethod
    def parse(cls, content: bytes, path: Path) -> Self:
        """Read a spec from the content of its file; ``path`` is only for the message.

        Raises
        ------
        BadModel
            It is of a format that this version does not read, or does not validate.
        """
        _check_format(content, path)
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            found = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
            more = f"; and {len(found) - _MAX_PROBLEMS} more" if len(found) > _MAX_PROBLEMS else ""
            raise BadModel(f"{path} is not a model spec: {'; '.join(found[:_MAX_PROBLEMS])}{more}") from error


def _check_format(content: bytes, path: Path) -> None:
    """Look at the format before anything else: another one may have other fields, and those errors would mislead."""
    try:
        found = from_json(content)  # json.loads would raise a RecursionError on brackets alone
    except ValueError as error:
        raise BadModel(f"{path} is not JSON: {error}") from error
    number = found.get("format") if isinstance(found, dict) else None
    if type(number) is not int or not 1 <= number <= _MAX_FORMAT:  # not isinstance: True is an int
        raise BadModel(f"{path} is not a model spec: its `format` is no whole number from 1 on")
    if number > FORMAT:
        raise BadModel(
            f"{path} has format {number}, but this version of lookalike reads formats 1 to {FORMAT}: "
            "use the version that wrote the model, or a newer one"
        )
