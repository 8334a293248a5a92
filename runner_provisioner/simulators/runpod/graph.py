"""GraphQL itself: the schema, documents parsed once, and errors with the HTTP status the service gives them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    SelectionSetNode,
    build_schema,
    execute_sync,
    get_operation_ast,
    parse,
    specified_rules,
    validate,
)

from runner_provisioner.simulators.runpod.texts import INTERNAL_CODE, HttpRefused, Refused

_CACHED_DOCUMENTS = 512
ANONYMOUS_FIELDS = frozenset({"gpuTypes", "dataCenters", "cpuFlavors", "__typename"})


@cache
def schema() -> GraphQLSchema:
    """The service's schema; built once, never changed."""
    return build_schema(files(__package__ or "").joinpath("schema.graphql").read_text("utf-8"))


@dataclass(frozen=True)
class Request:
    """A request that is valid as GraphQL, and the operations it asks for."""

    document: DocumentNode
    operations: tuple[str, ...]
    """Root fields, each once; `myself` with pods inside is `myself.pods`."""
    variables: Mapping[str, Any]
    operation_name: str | None

    @property
    def anonymous(self) -> bool:
        """Whether it may be asked without a credential."""
        return set(self.operations) <= ANONYMOUS_FIELDS


@dataclass(frozen=True)
class Reply:
    """An answer: HTTP status and JSON body."""

    status: int
    body: dict[str, Any]


class BadGraphQL(Exception):
    """A request that is refused before anything runs: HTTP 400 with `errors[]`."""

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.reply = Reply(400, {"errors": [_formatted(error) for error in errors]})


class Graph:
    """Reads requests (documents are cached by their text) and executes them on root fields."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        """`root`: name of the root field -> function of (info, **arguments)."""
        self._root = dict(root)
        self._documents: OrderedDict[str, DocumentNode | list[GraphQLError]] = OrderedDict()

    def read(self, body: object) -> Request:
        """The request in a JSON body; BadGraphQL when it is none."""
        if not isinstance(body, dict) or not isinstance(body.get("query"), str):
            raise BadGraphQL([GraphQLError("Must provide query string.")])
        variables = body.get("variables") or {}
        if not isinstance(variables, dict):
            raise BadGraphQL([GraphQLError("Variables are invalid JSON.")])
        document = self._document(body["query"])
        name = body.get("operationName") or None
        operation = get_operation_ast(document, name)
        if operation is None:
            raise BadGraphQL([GraphQLError("Must provide operation name if query contains multiple operations.")])
        return Request(document, tuple(_operations(document, operation)), variables, name)

    def _document(self, text: str) -> DocumentNode:
        known = self._documents.get(text)
        if known is None:
            known = self._documents[text] = _checked(text)
            if len(self._documents) > _CACHED_DOCUMENTS:
                self._documents.popitem(last=False)
        if isinstance(known, list):
            raise BadGraphQL(known)
        return known

    def execute(self, request: Request, context: object) -> Reply:
        """Run it. An error outside any field (wrong variables) is HTTP 400; a refusal of a field stays 200."""
        result = execute_sync(
            schema(),
            request.document,
            root_value=self._root,
            context_value=context,
            variable_values=dict(request.variables),
            operation_name=request.operation_name,
        )
        errors = result.errors or []
        if any(error.path is None for error in errors):
            return BadGraphQL(errors).reply
        for error in errors:
            _reraise(error.original_error)
        status = next((e.original_error.status for e in errors if isinstance(e.original_error, HttpRefused)), 200)
        body: dict[str, Any] = {"errors": [_formatted(error) for error in errors]} if errors else {}
        return Reply(status, {**body, "data": result.data} if status == 200 else body)  # noqa: PLR2004 - OK


def _reraise(error: Exception | None) -> None:
    """A mistake of the simulator itself is no answer of the service."""
    if error is not None and not isinstance(error, Refused | HttpRefused | GraphQLError):
        raise error


def _formatted(error: GraphQLError) -> dict[str, Any]:
    shown: dict[str, Any] = dict(error.formatted)
    shown.setdefault("extensions", {"code": INTERNAL_CODE if error.path else "GRAPHQL_VALIDATION_FAILED"})
    return shown


def _checked(text: str) -> DocumentNode | list[GraphQLError]:
    try:
        document = parse(text)
    except GraphQLError as error:
        return [error]
    return validate(schema(), document, [*specified_rules, NoSchemaIntrospectionCustomRule]) or document


def _operations(document: DocumentNode, operation: OperationDefinitionNode) -> Iterator[str]:
    fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
    seen: set[str] = set()
    for field in _fields(operation.selection_set, fragments):
        name = field.name.value
        if name == "myself" and any(each.name.value == "pods" for each in _fields(field.selection_set, fragments)):
            name = "myself.pods"
        if name not in seen:
            seen.add(name)
            yield name


def _fields(selection: SelectionSetNode | None, fragments: Mapping[str, FragmentDefinitionNode]) -> Iterator[FieldNode]:
    for node in selection.selections if selection else ():
        if isinstance(node, FieldNode):
            yield node
        elif isinstance(node, InlineFragmentNode):
            yield from _fields(node.selection_set, fragments)
        elif isinstance(node, FragmentSpreadNode):
            yield from _fields(fragments[node.name.value].selection_set, fragments)
