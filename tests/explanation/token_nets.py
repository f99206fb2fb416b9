"""Small nets whose layers return tokens or channels last."""

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

PATCHES = 6
TOKEN_SIDE = 4 * PATCHES


class SelfAttention(nn.Module):
    """Attention over all tokens, fused or as separate operations with the same result."""

    def __init__(self, width: int, *, is_fused: bool) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.is_fused = is_fused

    def forward(self, x: Tensor) -> Tensor:
        count, tokens, width = x.shape
        parts = self.qkv(x).view(count, tokens, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        if self.is_fused:
            mixed = functional.scaled_dot_product_attention(query, key, value)
        else:
            scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
            mixed = scores.softmax(-1) @ value
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(count, tokens, width))
        return out


class TokenBlock(nn.Module):
    def __init__(self, width: int, *, is_fused: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = SelfAttention(width, is_fused=is_fused)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class TokenNet(nn.Module):
    """A vision transformer: before and after say how many tokens are no patches.

    The head reads the first token where there is one before, and the mean of all otherwise.
    order: the patches are put into another order before the blocks, if given.
    """

    def __init__(
        self,
        *,
        before: int = 1,
        after: int = 0,
        is_fused: bool = True,
        order: Tensor | None = None,
        depth: int = 2,
    ) -> None:
        super().__init__()
        width = 16
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.before = nn.Parameter(torch.randn(1, before, width))
        self.after = nn.Parameter(torch.randn(1, after, width))
        self.place = nn.Parameter(torch.randn(1, PATCHES**2 + before + after, width) * 0.02)
        self.blocks = nn.Sequential(*(TokenBlock(width, is_fused=is_fused) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        patches = self.embed(x).flatten(2).transpose(1, 2)
        patches = patches if self.order is None else patches[:, self.order]
        others = (each.expand(len(x), -1, -1) for each in (self.before, self.after))
        first, last = others
        tokens = self.norm(self.blocks(torch.cat([first, patches, last], 1) + self.place))
        read = tokens[:, 0] if self.before.shape[1] else tokens.mean(1)
        logits: Tensor = self.head(read)
        return logits


class LastAxisBlock(nn.Module):
    """ConvNeXt's block: what lies between the two permutations has its channels last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm, self.dense = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.dense(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))
        out: Tensor = x + functional.gelu(inner).permute(0, 3, 1, 2)
        return out


class LastAxisNet(nn.Module):
    """Ends, as Swin does, with a normalisation of channels that come last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 8, 2, 2), LastAxisBlock(8)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(
            self.norm(self.block(self.stem(x)).permute(0, 2, 3, 1)).mean((1, 2))
        )
        return logits


class WindowNet(nn.Module):
    """Tokens in windows ``(n, windows, tokens, channels)``, as in NesT: no map of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.head = nn.Conv2d(3, 8, 2, 2), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.stem(x).permute(0, 2, 3, 1)
        count, rows, columns, width = maps.shape
        windows = maps.view(count, rows // 4, 4, columns // 4, 4, width).transpose(2, 3)
        logits: Tensor = self.head(self.norm(windows.reshape(count, -1, 16, width)).mean((1, 2)))
        return logits


def seeded(net_type: type[nn.Module], **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    return net_type(**arguments).eval()
