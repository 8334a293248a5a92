"""`python -m benchmarks [startup] [lifecycle] [offers] [action] [fleet] [markets] [http]`: measure and print a table.

1 when a count misses its goal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from benchmarks import action_install, dead_offers, fleet, http_service, lifecycle, markets, startup
from benchmarks.measure import Figure, table

GROUPS: Mapping[str, Callable[[], Sequence[Figure]]] = {
    "startup": startup.figures,
    "lifecycle": lifecycle.figures,
    "offers": dead_offers.figures,
    "action": action_install.figures,
    "fleet": fleet.figures,
    "markets": markets.figures,
    "http": http_service.figures,
}


def main(names: list[str]) -> int:
    """Measure the groups that are named, or all."""
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        sys.stderr.write(f"no group {unknown[0]}: there are {', '.join(GROUPS)}\n")
        return 2
    figures = [figure for name in names or GROUPS for figure in GROUPS[name]()]
    print("\n".join(table(figures)))
    return int(any(figure.binding and not figure.met for figure in figures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
