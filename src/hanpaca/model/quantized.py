"""Frozen weights in 8 or 4 bits, while adapters beside them learn (QLoRA, arXiv 2305.14314).

bitsandbytes quantizes. A weight is restored where it is used, forward and backward, and thrown away
again. The files of the base are left alone, and what is merged is merged into them.
"""

import importlib.util
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from hanpaca.errors import ResourceError

Bits = Literal["none", "8bit", "nf4"]
_BLOCK = {"8bit": 256, "nf4": 64}
"""Weights that share a scale; 64 is QLoRA's."""


class QuantizedWeight(nn.Module):
    """A frozen matrix in few bits."""

    def __init__(self, weight_oi: Tensor, bits: Bits) -> None:
        """Args: `weight_oi`, of the type that it is restored to."""
        super().__init__()
        from bitsandbytes import functional

        self.shape, self.dtype, self.bits = weight_oi.shape, weight_oi.dtype, bits
        given = {"blocksize": _BLOCK[bits]}
        if bits == "nf4":
            codes, state = functional.quantize_4bit(weight_oi, quant_type="nf4", **given)
        else:
            codes, state = functional.quantize_blockwise(weight_oi, **given)
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", state.absmax, persistent=False)
        self.register_buffer("levels", state.code, persistent=False)
        self.codes: Tensor
        self.scales: Tensor
        self.levels: Tensor

    def restored(self) -> Tensor:
        """The matrix, (out, in), as near as its bits come."""
        from bitsandbytes import functional

        state = functional.QuantState(
            absmax=self.scales,
            shape=self.shape,
            code=self.levels,
            blocksize=_BLOCK[self.bits],
            quant_type="nf4",
            dtype=self.dtype,
        )
        if self.bits == "nf4":
            return cast(Tensor, functional.dequantize_4bit(self.codes, state))
        return cast(Tensor, functional.dequantize_blockwise(self.codes, state))

    def forward(self, x: Tensor) -> Tensor:
        """Apply: (..., in) -> (..., out)."""
        y: Tensor = _Product.apply(x, self.restored)  # type: ignore[no-untyped-call]
        return y


class _Product(torch.autograd.Function):
    """x Wᵀ of a W that is made anew for the gradient of x; it has none of its own."""

    @staticmethod
    def forward(
        context: Any,  # noqa: ANN401  # torch types it so
        x: Tensor,
        restored: Callable[[], Tensor],
    ) -> Tensor:
        context.restored = restored
        return x @ restored().t()

    @staticmethod
    def backward(
        context: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[Tensor, None]:
        return grad @ context.restored(), None


def check_quantizer(bits: Bits) -> None:
    """Check that weights can be quantized here.

    Raises:
        ResourceError: bitsandbytes is not installed.
    """
    if bits != "none" and importlib.util.find_spec("bitsandbytes") is None:
        raise ResourceError(
            f"a base of {bits} weights takes bitsandbytes, which is not installed: "
            "pip install 'hanpaca[quantized]'",
            "or leave {quantize_base} out",
        )
