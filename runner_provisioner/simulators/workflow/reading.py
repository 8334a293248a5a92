"""YAML as GitHub reads it: version 1.2, no key twice."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from runner_provisioner.simulators.workflow.errors import WorkflowError
from runner_provisioner.simulators.workflow.values import Value, parse_number, to_string

TEXT_LIMIT = 512 * 1024
_NODE_LIMIT = 50_000
_LEVEL_LIMIT = 60
_PREFIX = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2, for which `on` is a word and 1:30 no number."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as PyYAML declares it

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        """Refuse a key that is there already."""
        seen: set[str] = set()
        for key, _ in node.value:
            name = to_string(self.construct_object(key, deep=True))
            if name in seen:
                raise WorkflowError(f"'{name}' is there twice (line {key.start_mark.line + 1})")
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    value = parse_number(str(loader.construct_scalar(node)).replace(".inf", "Infinity"))
    return int(value) if value.is_integer() else value


def _flag(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return str(loader.construct_scalar(node)).lower() == "true"


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(_PREFIX + _tag, re.compile(rf"(?:{_pattern})\Z"), [*_first.replace("\0", ""), ""])
_Loader.add_constructor(_PREFIX + "int", _number)
_Loader.add_constructor(_PREFIX + "float", _number)
_Loader.add_constructor(_PREFIX + "bool", _flag)


def read_yaml(text: str) -> Value:
    """The content of a workflow file; WorkflowError for what is no YAML, too long or too deep."""
    if len(text) > TEXT_LIMIT:
        raise WorkflowError(f"the file is longer than {TEXT_LIMIT // 1024} KiB")
    try:
        content = yaml.load(text, _Loader)  # noqa: S506 - a safe loader with another table of scalars
        _measure(content, 0, [0])
    except yaml.YAMLError as error:
        raise WorkflowError(f"this is no YAML: {' '.join(str(error).split())}") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise WorkflowError(f"this is no workflow: {error}") from None
    return content


def _measure(value: Value, level: int, count: list[int]) -> None:
    """Refuse what aliases have made endless or huge."""
    count[0] += 1
    if level > _LEVEL_LIMIT or count[0] > _NODE_LIMIT:
        raise WorkflowError("the file is nested too deep or holds too much")
    elements = value.values() if isinstance(value, dict) else value if isinstance(value, (list, set)) else ()
    for element in elements:
        _measure(element, level + 1, count)
