"""Keras networks on TensorFlow, written by tf2onnx: python tests/tf2onnx_networks.py DIRECTORY.

A process of its own, since Keras has one backend in a process. Writes name.onnx and name.npz (x, y) for each network.
"""

import os
import sys
from pathlib import Path

os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from keras import layers as L

SEED = 5
OPSETS = {"mlp": 13, "vgg": 15, "mobilenet-v3": 18}
"""17 elsewhere."""


def convolved(x, channels, kernel=3, *, strides=1, act="relu", groups=None):
    """Convolution, batch norm, activation: separable by channel with groups="each"."""
    if groups == "each":
        x = L.DepthwiseConv2D(kernel, strides=strides, padding="same", use_bias=False)(x)
    else:
        x = L.Conv2D(channels, kernel, strides=strides, padding="same", use_bias=False)(x)
    x = L.BatchNormalization()(x)
    return {"relu6": L.ReLU(6.0)}.get(act, L.Activation(act))(x) if act else x


def squeezed(x, gate):
    """Squeeze and excitation: a channel's weight from its mean."""
    mean = L.GlobalAveragePooling2D(keepdims=True)(x)
    weight = L.Conv2D(x.shape[-1], 1, activation=gate)(L.Conv2D(2, 1, activation="relu")(mean))
    return L.Multiply()([x, weight])


def mlp():
    """Activations of many kinds (for Keras' gelu tf2onnx writes Erfc, which ONNX does not have: refused by name)."""
    x = h = keras.Input((7,))
    for act in ("selu", "elu", "softplus", "tanh", "silu", "leaky_relu", "relu6"):
        h = L.Dense(6, activation=act)(h)
    return x, L.Dense(3)(L.PReLU()(L.Dense(5)(h)))


def vgg():
    """Convolutions, max pools, dense layers."""
    x = keras.Input((16, 16, 3))
    h = L.MaxPool2D()(L.Conv2D(4, 3, activation="relu", padding="same")(x))
    h = L.MaxPool2D(3, strides=2, padding="same")(L.Conv2D(5, 3, activation="relu")(h))
    return x, L.Dense(4, activation="softmax")(L.Dropout(0.5)(L.Dense(6, activation="relu")(L.Flatten()(h))))


def resnet():
    """Residual blocks, one with a projection."""
    x = keras.Input((16, 16, 3))
    h = L.MaxPool2D(3, strides=2, padding="same")(convolved(x, 4, 5, strides=2))
    h = L.ReLU()(L.Add()([convolved(convolved(h, 4), 4, act=None), h]))
    side = convolved(h, 6, 1, strides=2, act=None)
    h = L.ReLU()(L.Add()([convolved(convolved(h, 6, strides=2), 6, act=None), side]))
    return x, L.Dense(3)(L.GlobalAveragePooling2D()(h))


def densenet():
    """Batch norm first; concatenation; average pools."""
    x = h = keras.Input((12, 12, 3))
    for _ in range(3):
        h = L.Concatenate()([h, L.Conv2D(2, 3, padding="same")(L.ReLU()(L.BatchNormalization()(h)))])
    h = L.AveragePooling2D(3, strides=2, padding="same")(L.ReLU()(L.BatchNormalization()(h)))
    return x, L.Dense(3)(L.Flatten()(h))


def inception():
    """Four branches of unlike kernels."""
    x = keras.Input((12, 12, 3))
    pooled = convolved(L.AveragePooling2D(3, strides=1, padding="same")(x), 2, 1)
    h = L.Concatenate()([convolved(x, 2, 1), convolved(x, 3, (1, 5)), convolved(x, 2, (5, 1)), pooled])
    return x, L.Dense(3)(L.GlobalMaxPooling2D()(h))


def mobilenet_v2():
    """Inverted residuals, ReLU6, depthwise."""
    x = keras.Input((16, 16, 3))
    h = convolved(x, 4, strides=2, act="relu6")
    wide = convolved(convolved(h, 8, 1, act="relu6"), 8, act="relu6", groups="each")
    h = L.Add()([h, convolved(wide, 4, 1, act=None)])
    wide = convolved(convolved(h, 8, 1, act="relu6"), 8, strides=2, act="relu6", groups="each")
    return x, L.Dense(3)(L.GlobalAveragePooling2D()(convolved(wide, 5, 1, act=None)))


def mobilenet_v3():
    """Hard swish, hard sigmoid gates."""
    x = keras.Input((16, 16, 3))
    h = convolved(x, 4, strides=2, act="hard_silu")
    h = squeezed(convolved(h, 4, 5, act="hard_silu", groups="each"), "hard_sigmoid")
    return x, L.Dense(3)(L.GlobalAveragePooling2D()(h))


def efficientnet():
    """SiLU, sigmoid gates."""
    x = keras.Input((16, 16, 3))
    h = convolved(L.Rescaling(1 / 0.5, offset=-1.0)(x), 4, strides=2, act="silu")
    h = squeezed(convolved(h, 4, 5, act="silu", groups="each"), "sigmoid")
    return x, L.Dense(3)(L.GlobalAveragePooling2D()(convolved(h, 5, 1, act="silu")))


def unet():
    """Down, up by transposed convolution and by resizing, joined."""
    x = keras.Input((8, 8, 2))
    top = convolved(x, 3)
    low = convolved(L.MaxPool2D()(top), 4)
    up = L.Conv2DTranspose(3, 3, strides=2, padding="same")(low)
    nearest, smooth = L.UpSampling2D()(low), L.UpSampling2D(interpolation="bilinear")(low)
    h = L.Concatenate()([top, up, nearest, smooth, L.ZeroPadding2D(1)(L.Cropping2D(1)(top))])
    return x, L.Conv2D(2, 1)(h)


def one_d():
    """A signal."""
    x = keras.Input((20, 2))
    h = L.AveragePooling1D(2)(L.MaxPool1D(2)(L.Conv1D(4, 3, dilation_rate=2, activation="relu", padding="same")(x)))
    return x, L.Dense(2)(L.Flatten()(h))


def three_d():
    """A volume."""
    x = keras.Input((6, 6, 6, 2))
    h = L.AveragePooling3D(2)(L.Conv3D(3, 3, activation="relu", padding="same")(x))
    return x, L.Dense(2)(L.GlobalMaxPooling3D()(h))


NETWORKS = {
    function.__name__.replace("_", "-"): function
    for function in (
        mlp, vgg, resnet, densenet, inception, mobilenet_v2, mobilenet_v3, efficientnet, unet, one_d, three_d,
    )
}  # fmt: skip


def write(name, directory):
    """The network with drawn weights and statistics, as tf2onnx writes it, with an input and Keras' output."""
    keras.utils.set_random_seed(SEED)
    rng = np.random.default_rng(SEED)
    model = keras.Model(*NETWORKS[name]())
    for weight in model.weights:
        if "seed" not in weight.path:
            size = (0.5, 1.5) if "variance" in weight.path or "gamma" in weight.path else (-0.5, 0.5)
            weight.assign(rng.uniform(*size, weight.shape))
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="input")]
    function = tf.function(lambda x: model(x, training=False), input_signature=signature)
    tf2onnx.convert.from_function(
        function, input_signature=signature, opset=OPSETS.get(name, 17), output_path=str(directory / f"{name}.onnx")
    )
    x = rng.uniform(-1, 1, (2, *model.input_shape[1:])).astype(np.float32)
    np.savez(directory / f"{name}.npz", x=x, y=np.asarray(model(x, training=False)))


if __name__ == "__main__":
    for each in NETWORKS:
        write(each, Path(sys.argv[1]))
