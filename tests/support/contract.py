"""The OpenAPI document as a contract: every answer is compared with what it promises, field by field."""

from __future__ import annotations

import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator, FormatChecker


class Contract:
    """What the document promises of each path, method and status.

    ``check`` goes into the ``response`` hooks of an httpx client. ``answered`` collects what was compared.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        # The longer path first: .../{image_id}/photo is also an .../{image_id} whose id has a slash.
        self._paths = [
            (re.compile(_pattern(path), re.DOTALL), path) for path in sorted(document["paths"], key=len, reverse=True)
        ]
        self.answered: set[tuple[str, str, int]] = set()

    @property
    def promised(self) -> set[tuple[str, str, int]]:
        """Each path, method and status of success that the document names."""
        return {
            (path, method.upper(), int(status))
            for path, operations in self._document["paths"].items()
            for method, operation in operations.items()
            for status in operation["responses"]
            if status.startswith("2")
        }

    def check(self, response: httpx.Response) -> None:
        """Compare an answer with the schema of its path, method and status."""
        request = response.request
        path = next((path for pattern, path in self._paths if pattern.fullmatch(request.url.path)), None)
        if path is None or request.method.lower() not in self._document["paths"][path]:
            return  # no such route: the page, or what is refused as unknown
        promised = self._document["paths"][path][request.method.lower()]["responses"]
        assert str(response.status_code) in promised, f"{request.method} {path}: {response.status_code} is not promised"
        self.answered.add((path, request.method, response.status_code))
        content = promised[str(response.status_code)].get("content", {})
        if "application/json" in content:
            response.read()
            schema = content["application/json"]["schema"] | {"components": self._document["components"]}
            errors = list(Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(response.json()))
            assert not errors, f"{request.method} {path}: {errors[0].json_path}: {errors[0].message}"


def _pattern(path: str) -> str:
    return re.sub(r"\\{image_id\\}", ".+", re.sub(r"\\{(?!image_id)\w+\\}", "[^/]+", re.escape(path)))
