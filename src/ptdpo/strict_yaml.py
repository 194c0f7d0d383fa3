"""YAML as recipes need it: nothing that a reader would overlook, nothing that grows when it is read."""

from collections.abc import Hashable
from typing import Any

import yaml
from yaml.composer import ComposerError

_DEEPEST = 20


class StrictLoader(yaml.SafeLoader):
    """Refuses keys that stand twice, aliases, and deep nesting; all are ``yaml.YAMLError`` with the place."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node; PyYAML calls it for every value."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise ComposerError(None, None, "aliases are not supported: write it out", event.start_mark)
        self._depth += 1
        try:
            if self._depth > _DEEPEST:
                deep = f"nested deeper than {_DEEPEST} levels"
                raise ComposerError(None, None, deep, event.start_mark)
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Construct a mapping; of a key that stands twice PyYAML would take the last without a word."""
        seen: set[Any] = set()
        for key, _ in node.value:
            name = getattr(key, "value", None)
            if isinstance(name, str) and name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {name!r} stands twice", key.start_mark)
            seen.add(name if isinstance(name, str) else id(key))
        return super().construct_mapping(node, deep)
