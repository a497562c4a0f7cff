"""What the reader of the page over many results can show and hide, and how its parts are tagged for that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pruneinit.report.collect import Line, Network

KINDS = ("data set", "network", "criterion", "line")


@dataclass(frozen=True)
class Filters:
    """The values of each kind, in the order in which they are offered; the place in its list tags a value.

    Attributes:
        values: By kind: data sets, networks, criteria, and the labels of lines.
    """

    values: dict[str, tuple[str, ...]]

    @staticmethod
    def of(networks: Sequence[Network]) -> Filters:
        """The filters for these networks.

        Example:
            >>> Filters.of([Network("mnist", "mlp", 10, 100, ())]).values["network"]
            ('mlp, depth 10, width 100',)
        """
        lines = [line for network in networks for line in network.lines]
        found: tuple[Iterable[str], ...] = (
            (network.data for network in networks),
            (network.name for network in networks),
            sorted({line.criterion for line in lines}, key=str.casefold),
            sorted({line.label for line in lines}, key=lambda label: (label.casefold(), label)),
        )
        return Filters({kind: tuple(dict.fromkeys(values)) for kind, values in zip(KINDS, found, strict=True)})

    @property
    def offered(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Each kind of which there is a choice, with the tag and the name of its values."""
        return [
            (kind, [(f"{kind[0]}{place}", value) for place, value in enumerate(values)])
            for kind, values in self.values.items()
            if len(values) > 1
        ]

    def tags(self, networks: Sequence[Network], line: Line) -> str:
        """What a part of the page is hidden by: one word a kind, its alternatives parted by a bar.

        Args:
            networks: The networks of one data set that the part shows.
            line: The line that it shows.
        """
        shown = "|".join(self._tag("network", network.name) for network in networks)
        parts = ("data set", networks[0].data), ("criterion", line.criterion), ("line", line.label)
        return " ".join([shown, *(self._tag(kind, value) for kind, value in parts)])

    def look(self, line: Line) -> int:
        """The colour, dash and marker of a line, the same all over the page."""
        return self.values["line"].index(line.label)

    def _tag(self, kind: str, value: str) -> str:
        return f"{kind[0]}{self.values[kind].index(value)}"
