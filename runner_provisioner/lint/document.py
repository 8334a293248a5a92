"""YAML with line numbers, as a tree that answers every question without failing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import yaml

TEXT_LIMIT: Final = 512 * 1024  # characters; GitHub's own limit for a workflow file
_NODE_LIMIT: Final = 50_000
_LEVEL_LIMIT: Final = 60


class MalformedYaml(Exception):  # not one of errors.py: the check turns it into a finding
    """The text is no YAML, or none that GitHub would take; `line` counts from 1."""

    def __init__(self, message: str, *, line: int) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Node:
    """A value: a text, a list or a mapping, the other two being empty. `line` is that of its key where it has one."""

    line: int = 0
    text: str = ""
    items: tuple[Node, ...] = ()
    entries: Mapping[str, Node] = field(default_factory=lambda: MappingProxyType({}))
    given: bool = True

    def get(self, name: str) -> Node:
        """An entry, or `NOTHING`."""
        return self.entries.get(name, NOTHING)

    @property
    def texts(self) -> tuple[Node, ...]:
        """The texts of what may be one text or a list of them."""
        return tuple(one for one in (self.items or (self,)) if one.text)

    def leaves(self) -> Iterator[Node]:
        """Every text in it, in order."""
        if self.text:
            yield self
        for one in (*self.items, *self.entries.values()):
            yield from one.leaves()


NOTHING: Final = Node(given=False)


def read_document(text: str) -> Node:
    """The content of a file. Raises MalformedYaml, for everything that is too long, too deep or endless too."""
    import yaml  # noqa: PLC0415 - needed by one command alone

    if len(text) > TEXT_LIMIT:
        raise MalformedYaml(f"the file is longer than {TEXT_LIMIT // 1024} KiB", line=1)
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise MalformedYaml(_one_line(error.problem or error.context), line=mark.line + 1 if mark else 1) from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise MalformedYaml(_one_line(error), line=1) from None
    return _Reading().node(root) if root is not None else Node(line=1)


def _one_line(what: object) -> str:
    return " ".join(str(what).split())[:200]


class _Reading:
    """One reading of PyYAML's tree, in which aliases may have made loops or avalanches."""

    def __init__(self) -> None:
        self._count = 0

    def node(self, source: yaml.Node, *, level: int = 0, key_line: int = 0) -> Node:
        import yaml  # noqa: PLC0415 - as above

        line = key_line or source.start_mark.line + 1
        self._count += 1
        if level > _LEVEL_LIMIT or self._count > _NODE_LIMIT:
            raise MalformedYaml("it is nested too deep or holds too much", line=line)
        if isinstance(source, yaml.MappingNode):
            return Node(line=line, entries=self._entries(source, level + 1))
        if isinstance(source, yaml.SequenceNode):
            return Node(line=line, items=tuple(self.node(one, level=level + 1) for one in source.value))
        return Node(line=line, text=_text(source))

    def _entries(self, source: yaml.MappingNode, level: int) -> Mapping[str, Node]:
        import yaml  # noqa: PLC0415 - as above

        found: dict[str, Node] = {}
        for key, value in source.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise MalformedYaml("a key is no text", line=line)
            if key.value in found:
                raise MalformedYaml(f"'{_one_line(key.value)}' is there twice", line=line)
            found[key.value] = self.node(value, level=level, key_line=line)
        return MappingProxyType(found)


def _text(source: yaml.Node) -> str:
    # A plain `~` or `null` is no text; in quotes it is.
    return "" if source.tag == "tag:yaml.org,2002:null" else str(source.value)
