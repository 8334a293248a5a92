"""The text of an expression as a tree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from runner_provisioner.simulators.workflow.errors import WorkflowError
from runner_provisioner.simulators.workflow.values import Value, parse_number

DEPTH_LIMIT = 50  # docs.github.com limits, and keeps Python's own recursion far away
LENGTH_LIMIT = 21_000
_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>'(?:[^']|'')*')
      | (?P<number>(?:0x[0-9a-fA-F]+|0o[0-7]+|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?Infinity)(?![\w.]))
      | (?P<name>[A-Za-z_][A-Za-z0-9_-]*)
      | (?P<operator>&&|\|\||[=!<>]=|[!<>()\[\].,*])""",
    re.VERBOSE | re.ASCII,
)
_WORDS: dict[str, Value] = {"null": None, "true": True, "false": False, "NaN": float("nan")}
_PRIORITY = {"||": 1, "&&": 2, "==": 3, "!=": 3, "<": 4, "<=": 4, ">": 4, ">=": 4}


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant."""

    value: Value
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Name:
    """A context, such as `github`."""

    name: str
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Index:
    """`target[key]`, or `target.*` when `key` is None."""

    target: Node
    key: Node | None
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments."""

    name: str
    arguments: tuple[Node, ...]
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Operation:
    """`!` with one operand, a comparison with two, `&&` and `||` with two or more."""

    operator: str
    operands: tuple[Node, ...]
    depth: int = 1


Node: TypeAlias = Literal | Name | Index | Call | Operation


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def tokenise(text: str) -> list[_Token]:
    """Cut an expression into its words."""
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if not found:
            raise WorkflowError(f"'{text[position : position + 20]}' is no part of an expression: {text.strip()}")
        position = found.end()
        if found.lastgroup and found.lastgroup != "space":
            tokens.append(_Token(found.lastgroup, found[0]))
    return tokens


def parse(text: str) -> Node:
    """Read an expression (without its `${{ }}`).

    Raises WorkflowError for bad syntax, for more than 21,000 characters and more than 50 levels.
    """
    if len(text) > LENGTH_LIMIT:
        raise WorkflowError(f"an expression is longer than {LENGTH_LIMIT} characters")
    return _Parser(text=text, tokens=tokenise(text)).whole()


@dataclass
class _Parser:
    text: str
    tokens: list[_Token]
    position: int = field(default=0)
    level: int = field(default=0)

    def whole(self) -> Node:
        node = self.expression()
        if self.position < len(self.tokens):
            raise self.unexpected()
        return node

    def unexpected(self) -> WorkflowError:
        word = f"'{self.tokens[self.position].text}'" if self.position < len(self.tokens) else "the end"
        return WorkflowError(f"{word} is not expected in the expression: {self.text.strip()}")

    def peek(self) -> str:
        """The next operator, or '' when the next word is none."""
        if self.position >= len(self.tokens) or self.tokens[self.position].kind != "operator":
            return ""
        return self.tokens[self.position].text

    def take(self, *operators: str) -> str:
        """The next operator when it is one of these."""
        found = self.peek()
        if found not in operators:
            return ""
        self.position += 1
        return found

    def expect(self, operator: str) -> None:
        if not self.take(operator):
            raise self.unexpected()

    def deep(self, *children: Node) -> int:
        depth = 1 + max((child.depth for child in children), default=0)
        if depth > DEPTH_LIMIT:
            raise WorkflowError(f"an expression is nested deeper than {DEPTH_LIMIT} levels")
        return depth

    def expression(self, above: int = 0) -> Node:
        self.level += 1
        if self.level > DEPTH_LIMIT:
            raise WorkflowError(f"an expression is nested deeper than {DEPTH_LIMIT} levels")
        node = self.unary()
        while _PRIORITY.get(self.peek(), 0) > above:
            operator = self.take(*_PRIORITY)
            node = self.joined(operator, node, self.expression(_PRIORITY[operator]))
        self.level -= 1
        return node

    def joined(self, operator: str, left: Node, right: Node) -> Node:
        flat = operator in ("&&", "||") and isinstance(left, Operation) and left.operator == operator
        operands = (*left.operands, right) if flat and isinstance(left, Operation) else (left, right)
        return Operation(operator, operands, self.deep(*operands))

    def unary(self) -> Node:
        turns = 0
        while self.take("!"):
            turns += 1
        node = self.postfix()
        for _ in range(turns):
            node = Operation("!", (node,), self.deep(node))
        return node

    def postfix(self) -> Node:
        node = self.primary()
        while operator := self.take(".", "["):
            key = self.member() if operator == "." else self.subscript()
            node = Index(node, key, self.deep(node, *([key] if key else [])))
        return node

    def member(self) -> Node | None:
        if self.take("*"):
            return None
        if self.position < len(self.tokens) and self.tokens[self.position].kind == "name":
            self.position += 1
            return Literal(self.tokens[self.position - 1].text)
        raise self.unexpected()

    def subscript(self) -> Node | None:
        key = None if self.take("*") else self.expression()
        self.expect("]")
        return key

    def primary(self) -> Node:
        if self.take("("):
            node = self.expression()
            self.expect(")")
            return node
        if self.position >= len(self.tokens) or self.tokens[self.position].kind == "operator":
            raise self.unexpected()
        token = self.tokens[self.position]
        self.position += 1
        if token.kind == "string":
            return Literal(token.text[1:-1].replace("''", "'"))
        if token.kind == "number":
            return Literal(parse_number(token.text))
        return self.named(token.text)

    def named(self, word: str) -> Node:
        if self.take("("):
            arguments = tuple(self.arguments())
            return Call(word, arguments, self.deep(*arguments))
        return Literal(_WORDS[word]) if word in _WORDS else Name(word)

    def arguments(self) -> Iterator[Node]:
        if self.take(")"):
            return
        while True:
            yield self.expression()
            if self.take(")"):
                return
            self.expect(",")


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    children: tuple[Node, ...] = ()
    if isinstance(node, Index):
        children = (node.target, node.key) if node.key else (node.target,)
    elif isinstance(node, Call):
        children = node.arguments
    elif isinstance(node, Operation):
        children = node.operands
    for child in children:
        yield from walk(child)
