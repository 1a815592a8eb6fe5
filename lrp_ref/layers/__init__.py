"""What networks are made of. Each layer is a frozen value; options are given by keyword."""

from .base import Diagonal, Layer, Linear, Wires
from .conv import Conv, ConvTranspose
from .dense import Dense
from .elementwise import (
    ELU,
    GELU,
    Activation,
    Clip,
    Dropout,
    Given,
    Identity,
    LeakyReLU,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from .merge import Add, Concat, Mean, Sub, Sum
from .norm import BatchNorm, Scale
from .pool import AvgPool, GlobalAvgPool, GlobalMaxPool, MaxPool, Near, SoftMinPool, SumPool
from .shape import Flatten, Pad, Reshape, Slice, Squeeze, Transpose, Unsqueeze, Upsample

__all__ = [
    "ELU",
    "GELU",
    "Activation",
    "Add",
    "AvgPool",
    "BatchNorm",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Diagonal",
    "Dropout",
    "Flatten",
    "Given",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "Identity",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MaxPool",
    "Mean",
    "Near",
    "PReLU",
    "Pad",
    "ReLU",
    "Reshape",
    "Scale",
    "SiLU",
    "Sigmoid",
    "Slice",
    "SoftMinPool",
    "Softplus",
    "Squeeze",
    "Sub",
    "Sum",
    "SumPool",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Upsample",
    "Wires",
]  # fmt: skip
