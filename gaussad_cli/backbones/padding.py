"""Padding rules of EfficientNet's strided convolutions.

The authors used efficientnet_pytorch 0.6.3, which computes every convolution's "same" padding from the network's input
size, not from the layer's (PROTOCOL: padding). timm's ``tf_`` models follow TensorFlow and use the layer's input size.
The two rules differ where a strided layer gets an input of odd size, that is in B1 to B7.
"""

from __future__ import annotations

from typing import cast

from timm.layers.conv2d_same import Conv2dSame
from torch import nn

# Strided convolutions of EfficientNet-B0..B7 (Tan & Le 2019, Table 1): the stem, and the start of levels 3, 4, 5 and 7.
N_STRIDED = 5


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return (before, after) of TensorFlow's "same" rule along one axis for an input of `size` pixels."""
    total = max((-(size // -stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def use_paper_padding(network: nn.Module, input_size: int) -> None:
    """Give every same-padded convolution the padding that follows from the network's input size, in place.

    Call it after the weights are loaded: a replaced convolution sits one name deeper (``conv_stem.1.weight``).
    timm uses ``Conv2dSame`` exactly where the padding depends on the size, that is, where the stride is 2.

    Raises
    ------
    RuntimeError
        If the network does not have as many of them as an EfficientNet: another version of timm may use other modules,
        and the features would silently be those of another padding.
    """
    found = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, Conv2dSame)
    ]
    if len(found) != N_STRIDED:
        raise RuntimeError(
            f"{len(found)} convolutions of the network pad by their input's size, but an EfficientNet has {N_STRIDED}: "
            "this version of timm builds it differently than padding.py expects."
        )
    for parent, name, conv in found:
        setattr(parent, name, _statically_padded(conv, input_size))


def _statically_padded(conv: Conv2dSame, input_size: int) -> nn.Sequential:
    kernel, stride = cast(tuple[int, int], conv.kernel_size), cast(tuple[int, int], conv.stride)
    top, bottom = same_padding(input_size, kernel[0], stride[0])
    left, right = same_padding(input_size, kernel[1], stride[1])
    plain = nn.Conv2d(
        conv.in_channels, conv.out_channels, kernel, stride, groups=conv.groups, bias=conv.bias is not None
    )
    plain.weight, plain.bias = conv.weight, conv.bias
    return nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), plain)
