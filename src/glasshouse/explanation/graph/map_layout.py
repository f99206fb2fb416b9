"""Where the rows, columns and channels of a layer's output are, known exactly or measured."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from glasshouse.explanation.graph.axis_trace import AxisTrace
from glasshouse.explanation.graph.recording import Call, Recording, visit_outputs
from glasshouse.explanation.graph.region_test import RegionTest

# Class, distillation and register tokens: no published network has more.
_MOST_OTHER_TOKENS = 16
CallKey = tuple[str, int]


@dataclass(frozen=True)
class MapLayout:
    """How an output ``(n, ...)`` becomes maps ``(n, channels, rows, columns)``.

    order: the axes of an output with four axes in this order; empty for tokens ``(n, tokens,
    channels)``. Of the tokens, rows x columns are patches in reading order, of which the first
    is number `first`; the others belong to no place in the image. is_sequence_first: tokens are
    ``(tokens, n, channels)``, as torch's own attention has them unless told otherwise.
    """

    rows: int
    columns: int
    order: tuple[int, ...] = ()
    first: int = 0
    is_sequence_first: bool = False

    @property
    def is_tokens(self) -> bool:
        """Whether the output is a sequence of tokens."""
        return not self.order

    @property
    def has_extent(self) -> bool:
        """Whether there are several rows and columns, as a map needs."""
        return min(self.rows, self.columns) > 1

    @property
    def words(self) -> str:
        """How it differs from channels first; empty where it does not."""
        if self.is_tokens:
            return ", one per patch token"
        return "" if self.order == (0, 1, 2, 3) else ", channels last"

    @property
    def images_first(self) -> "MapLayout":
        """The same tokens as ``(n, tokens, channels)``."""
        return replace(self, is_sequence_first=False)

    def fold(self, values: Tensor) -> Tensor:
        """The output, or a gradient of its shape, as ``(n, channels, rows, columns)``."""
        if self.order:
            return values.permute(self.order)
        if self.is_sequence_first:
            values = values.transpose(0, 1)
        patches = values[:, self.first : self.first + self.rows * self.columns]
        return patches.transpose(1, 2).reshape(len(values), -1, self.rows, self.columns)


class Layouts:
    """The layouts of the outputs of one network, each found when it is first asked for.

    Where only operations that keep places lie between the image and an output, its axes follow
    from the graph. Any other output is measured: regions of an image are replaced, one at a time,
    and the matching regions of a map must be those that change most. Outputs that no layout
    explains (attention weights, windows, reordered tokens) have none.
    """

    def __init__(self, net: nn.Module, recording: Recording) -> None:
        """recording: with its graph back to the image; of one image is enough."""
        self._net, self._inputs = net, recording.inputs
        self._calls = {(call.name, call.number): call for call in recording.calls}
        self._trace = AxisTrace(recording)
        self._known: dict[CallKey, MapLayout | None] = {}

    def traced(self, call: Call) -> MapLayout | None:
        """The layout that follows from the graph, if any.

        call: of this recording or of another one of the same network.
        """
        edge = self._calls.get((call.name, call.number), call).edge
        order = None if edge is None else self._trace.order_of(edge)
        if order is None:
            return None
        return MapLayout(call.shape[order[2]], call.shape[order[3]], order)

    def find(self, calls: Iterable[Call]) -> dict[CallKey, MapLayout]:
        """The layouts of those calls that have one, by name and number."""
        wanted = {(call.name, call.number): call for call in calls}
        new = {key: call for key, call in wanted.items() if key not in self._known}
        self._known |= {key: self.traced(call) for key, call in new.items()}
        unknown = {key for key, call in new.items() if self._known[key] is None and self.may(call)}
        if unknown:
            self._known |= self._measured(unknown)
        found = {key: self._known[key] for key in wanted}
        return {key: layout for key, layout in found.items() if layout is not None}

    def may(self, call: Call) -> bool:
        """Whether the shape of an output allows for a map of several rows and columns."""
        own = self._calls.get((call.name, call.number), call)
        # By the graph's own number of images: the call may be of another recording.
        turned = _is_sequence_first(own.shape, len(self._inputs))
        is_whole = own.shape[:1] == (len(self._inputs),)
        return (is_whole or turned) and any(candidates(call.shape, self._size, turned))

    @property
    def _size(self) -> tuple[int, int]:
        height, width = self._inputs.shape[2:]
        return height, width

    def _measured(self, wanted: set[CallKey]) -> dict[CallKey, MapLayout | None]:
        test = RegionTest(self._inputs)
        firsts: dict[CallKey, Tensor] = {}
        changes: dict[CallKey, dict[MapLayout, list[Tensor]]] = {}

        def visit(name: str, number: int, output: Tensor) -> None:
            key, shape = (name, number), tuple(output.shape)
            turned = _is_sequence_first(shape, count)
            if key not in wanted or not (shape[0] == count or turned):
                return
            # A copy: the rest of the batch need not be kept.
            first = firsts.setdefault(key, output[:, :1].clone() if turned else output[:1].clone())
            found = changes.setdefault(key, {})
            for layout in candidates(shape, self._size, turned):
                part = test.changes(layout.fold(output), layout.fold(first))
                found.setdefault(layout, []).append(part)

        for images in test.parts():
            count = len(images)
            visit_outputs(self._net, images, {name for name, _ in wanted}, visit)
        return {key: _clearest(test, found) for key, found in changes.items()}


def _clearest(test: RegionTest, changes: Mapping[MapLayout, Sequence[Tensor]]) -> MapLayout | None:
    scored = [
        (test.score(torch.cat(list(parts)), (layout.rows, layout.columns)), layout)
        for layout, parts in changes.items()
        if sum(map(len, parts)) == len(test.images)
    ]
    best = max(scored, key=lambda each: each[0], default=(0.0, None))
    return best[1] if best[0] > 0 else None


def _is_sequence_first(shape: tuple[int, ...], count: int) -> bool:
    """Whether the images of an output are on its second axis, after its tokens."""
    return len(shape) == 3 and shape[0] != count == shape[1]


def candidates(
    shape: tuple[int, ...], image: tuple[int, int], is_sequence_first: bool = False
) -> list[MapLayout]:
    """Every layout with several rows and columns that an output of this shape could have."""
    if len(shape) == 4:
        orders = ((0, 1, 2, 3), (0, 3, 1, 2))
        found = [MapLayout(shape[order[2]], shape[order[3]], order) for order in orders]
        return [layout for layout in found if layout.has_extent]
    if len(shape) != 3:
        return []
    return [
        MapLayout(rows, columns, first=first, is_sequence_first=is_sequence_first)
        for rows, columns, others in _grids(shape[0 if is_sequence_first else 1], *image)
        for first in range(others, -1, -1)
    ]


def _grids(tokens: int, height: int, width: int) -> list[tuple[int, int, int]]:
    """Grids with the image's aspect ratio, and the number of tokens that are left over."""
    found = []
    for others in range(min(_MOST_OTHER_TOKENS, tokens) + 1):
        cells = tokens - others
        rows = round((cells * height / width) ** 0.5)
        columns = cells // rows if rows else 0
        if rows * columns == cells and rows * width == columns * height and rows > 1 < columns:
            found.append((rows, columns, others))
    return found
