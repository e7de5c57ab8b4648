"""`GET /docs`: every route on one page, made from the OpenAPI document, without scripts and without a CDN."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from service.pages.static import HEADERS

router = APIRouter(include_in_schema=False)

_TEMPLATE = Path(__file__).with_suffix(".html.jinja")


@dataclass(frozen=True)
class Field:
    """A parameter or a field of a body."""

    name: str
    type: str
    required: bool
    description: str


@dataclass(frozen=True)
class Operation:
    """One route and method."""

    tag: str
    method: str
    path: str
    summary: str
    description: str
    parameters: tuple[Field, ...]
    body: tuple[Field, ...]
    example: str
    answer: tuple[Field, ...]
    statuses: tuple[str, ...]


@router.get("/docs")
def read_docs(request: Request) -> HTMLResponse:
    """The page; the same document for machines is at `/openapi.json`."""
    return HTMLResponse(_page(request.app), headers=HEADERS)


@cache
def _page(app: FastAPI) -> str:
    document = app.openapi()
    loader = FileSystemLoader(_TEMPLATE.parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    by_tag: dict[str, list[Operation]] = {}
    for operation in operations(document):
        by_tag.setdefault(operation.tag, []).append(operation)
    return environment.get_template(_TEMPLATE.name).render(info=document["info"], by_tag=by_tag)


def operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    """Every operation of an OpenAPI document, in its order."""
    schemas = document.get("components", {}).get("schemas", {})
    for path, methods in document["paths"].items():
        for method, each in methods.items():
            body = each.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            success: Mapping[str, Any] = next(
                (answer for status, answer in each["responses"].items() if status.startswith("2")), {}
            )
            answer = success.get("content", {}).get("application/json", {}).get("schema", {})
            yield Operation(
                tag=each.get("tags", ["other"])[0],
                method=method.upper(),
                path=path,
                summary=each.get("summary", ""),
                description=each.get("description", ""),
                parameters=tuple(_parameter(p, schemas) for p in each.get("parameters", ())),
                body=tuple(_fields(_resolved(body, schemas), schemas)),
                example=_example(_resolved(body, schemas)),
                answer=tuple(_fields(_resolved(answer, schemas), schemas)),
                statuses=tuple(each["responses"]),
            )


def _parameter(parameter: Mapping[str, Any], schemas: Mapping[str, Any]) -> Field:
    schema = parameter.get("schema", {})
    said = parameter.get("description") or schema.get("description", "")
    name = f"{parameter['name']} ({parameter['in']})"
    return Field(name, _type(schema, schemas), parameter.get("required", False), said)


def _fields(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[Field]:
    required = schema.get("required", ())
    for name, each in schema.get("properties", {}).items():
        said = each.get("description") or _resolved(each, schemas).get("description", "")
        yield Field(name, _type(each, schemas), name in required, said)


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    found: Mapping[str, Any] = schemas[schema["$ref"].rpartition("/")[2]]
    return found


def _type(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "const" in schema or "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " | ".join(dict.fromkeys(_type(each, schemas) for each in schema[choice]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}), schemas)}"
    return str(schema.get("type", "any"))


def _example(schema: Mapping[str, Any]) -> str:
    examples = schema.get("examples") or ([schema["example"]] if "example" in schema else [])
    return json.dumps(examples[0], indent=2, ensure_ascii=False) if examples else ""
