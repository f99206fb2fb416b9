"""One step over the shards of a batch, summed in a fixed order wherever they are computed.

Floating-point sums depend on their order. Here it is a binary tree over the shards: a process sums
the subtree of its own shards, and the sums of processes are added in the same order, so that the
result has the same bytes for every number of processes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, repeat

import torch
from torch import Tensor, nn

from glasshouse.data.batches import Batch
from glasshouse.training.layer_passes import Places
from glasshouse.training.losses import correct_count
from glasshouse.training.optimizers import clear_gradients
from glasshouse.training.process_group import ProcessGroup
from glasshouse.training.results import Counted
from glasshouse.training.state import TrainingState
from glasshouse.training.tree_sum import tree_sum

# Forward and backward pass of one shard: its mean loss and its logits.
Backward = Callable[[Batch, Places], tuple[Tensor, Tensor]]
# Numbers after gradients and buffers: loss, images predicted right, whether to stop.
_ENDS = 3


def backward_of_shards(
    state: TrainingState,
    batch: Batch,
    backward: Backward,
    group: ProcessGroup,
    *,
    is_asked: Callable[[], bool] = lambda: False,
    changes_gradients: bool = True,
) -> tuple[Tensor, Counted]:
    """Leave the gradients of a whole batch in the parameters; returns its loss and its answers.

    Buffers that a forward pass changes, such as BatchNorm's running statistics, change by the mean
    of what the shards would change them by. is_asked: whether this process is asked to stop, which
    the others learn from the sum; called as late as possible. changes_gradients: whether anything
    changes them in place before they are cleared; otherwise, processes may share them.
    """
    message = _Message(
        [p for each in state.optimizer.param_groups for p in each["params"] if p.requires_grad],
        [buffer for buffer in state.net.buffers() if _can_change(buffer)],
    )
    before = [buffer.clone() for buffer in message.buffers]

    def packed(shard: Batch, place: Tensor | None) -> Tensor:
        loss, logits = backward(shard, message.places_in(place))
        # A loss of the user's own may be float64, which would make all numbers so.
        share_of_loss = loss.detach().float() * shard.share
        correct = correct_count(logits, shard.labels).float()
        asked = torch.full_like(correct, is_asked())
        ends = torch.stack([share_of_loss, correct, asked])
        values = message.pack(before, shard.share, ends, place)
        clear_gradients(state.optimizer)
        return values

    # The first shard's numbers become the sum: others are added to them.
    places = chain([group.place(message.size) if message.has_place else None], repeat(None))
    total = group.sum(tree_sum(map(packed, batch.shards, places)), changes=changes_gradients)
    loss, correct, asked = message.unpack(total, before)
    return loss, Counted(len(batch.positions), correct, asked)


def _can_change(buffer: Tensor) -> bool:
    """Whether a forward pass may change a buffer: numbers and counters, no tables of indices."""
    is_counter = buffer.numel() == 1 and buffer.dtype != torch.bool
    return buffer.is_floating_point() or is_counter


@dataclass(frozen=True)
class _Message:
    """Everything that is summed over shards, as one flat tensor: an exchange costs by the piece."""

    parameters: list[nn.Parameter]
    buffers: list[Tensor]

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return sum(self._sizes)

    @property
    def _sizes(self) -> list[int]:
        return [*(each.numel() for each in (*self.parameters, *self.buffers)), _ENDS]

    @property
    def has_place(self) -> bool:
        """Whether their sum is one of float32 numbers on the CPU."""
        return all(
            each.is_cpu and each.dtype != torch.float64 and not each.is_complex()
            for each in (*self.parameters, *self.buffers)
        )

    @torch.no_grad()
    def pack(
        self,
        before: list[Tensor],
        share: float,
        ends: Tensor,
        place: Tensor | None = None,
    ) -> Tensor:
        """Gradients, changes of buffers (which are undone), and three numbers at the end.

        ends: these, the loss times the shard's share. place: where all are written.
        """
        gradients = [_flat(torch.zeros_like(p) if p.grad is None else p.grad, like=p)
                     for p in self.parameters]  # fmt: skip
        changes = [
            ((buffer - old).flatten() * share)
            for buffer, old in zip(self.buffers, before, strict=True)
        ]
        for buffer, old in zip(self.buffers, before, strict=True):
            buffer.copy_(old)
        pieces = [*gradients, *changes, ends]
        if place is None:
            return torch.cat(pieces)
        pairs = zip(torch.split(place, self._sizes), pieces, strict=True)
        missing = [(there, piece) for there, piece in pairs if there.data_ptr() != piece.data_ptr()]
        torch._foreach_copy_([there for there, _ in missing], [piece for _, piece in missing])
        return place

    def places_in(self, place: Tensor | None) -> Places:
        """Where the gradients of parameters are, of all the numbers that a place is for."""
        if place is None:
            return {}
        pairs = zip(self.parameters, torch.split(place, self._sizes), strict=False)
        return {p: _like(piece, p) for p, piece in pairs if p.dtype == place.dtype}

    @torch.no_grad()
    def unpack(self, total: Tensor, before: list[Tensor]) -> Tensor:
        """Set gradients and buffers from the sum over all shards; returns the three numbers."""
        *pieces, ends = torch.split(total, self._sizes)
        gradients, changes = pieces[: len(self.parameters)], pieces[len(self.parameters) :]
        for parameter, piece in zip(self.parameters, gradients, strict=True):
            parameter.grad = _like(piece, parameter)
        for buffer, old, piece in zip(self.buffers, before, changes, strict=True):
            change = piece.view(buffer.shape)
            if not buffer.is_floating_point():
                change = change.round()
            buffer.copy_(old + change.to(buffer.dtype))
        return ends.clone()  # which are kept for longer than the gradients


def _flat(gradient: Tensor, like: Tensor) -> Tensor:
    """All values in the order of the parameter's memory, without a copy where they are in it."""
    if gradient.stride() != like.stride():
        gradient = torch.empty_like(like).copy_(gradient)
    if not _is_dense(like):
        return gradient.flatten()
    return gradient.as_strided((gradient.numel(),), (1,))


def _like(piece: Tensor, parameter: Tensor) -> Tensor:
    """The reverse of _flat: a view of the piece in shape, layout and type of the parameter."""
    if not _is_dense(parameter):
        return piece.view(parameter.shape).to(parameter.dtype)
    shaped = piece.as_strided(parameter.shape, parameter.stride(), piece.storage_offset())
    return shaped.to(parameter.dtype)


def _is_dense(tensor: Tensor) -> bool:
    return tensor.is_contiguous() or tensor.is_contiguous(memory_format=torch.channels_last)
