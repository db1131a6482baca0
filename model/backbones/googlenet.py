"""GoogLeNet v1 (Szegedy et al. 2014, table 1), as a table of layers.

As published, without batch normalisation, and without the two side classifiers, which serve only training.
The shapes are for an input of 224 x 224 x 3 at full width: 6,998,552 parameters with 1,000 classes.
"""

from __future__ import annotations

from lookalike.model.backbones.layers import (
    Conv,
    Dense,
    Dropout,
    GlobalAverage,
    Inception,
    LocalResponseNorm,
    MaxPool,
    Table,
    scaled,
)


def table(width: float = 1.0, classes: int | None = None) -> Table:
    """Write out the network.

    Parameters
    ----------
    width : float
        Multiplies the filters of every convolution.
    classes : int or None
        None leaves out the classifier, all that follows ``inception_5b``.

    Returns
    -------
    Table
        Layers in the order in which a photo passes them.
    """

    def conv(name: str, filters: int, size: int, stride: int = 1) -> Conv:
        return Conv(name, scaled(filters, width), size, stride, batch_norm=False, activation="relu")

    def inception(name: str, *filters: int) -> Inception:
        return Inception(f"inception_{name}", *(scaled(f, width) for f in filters))

    hidden: Table = (
        conv("conv1", 64, 7, stride=2),  # 112 x 112 x 64
        MaxPool("pool1", 3, 2),
        LocalResponseNorm("norm1"),
        conv("conv2_reduce", 64, 1),  # 56 x 56 x 64
        conv("conv2", 192, 3),  # 56 x 56 x 192
        LocalResponseNorm("norm2"),
        MaxPool("pool2", 3, 2),
        # 1x1, 3x3 after its reduction, 5x5 after its reduction, pooled
        inception("3a", 64, 96, 128, 16, 32, 32),  # 28 x 28 x 256
        inception("3b", 128, 128, 192, 32, 96, 64),  # 28 x 28 x 480
        MaxPool("pool3", 3, 2),
        inception("4a", 192, 96, 208, 16, 48, 64),  # 14 x 14 x 512
        inception("4b", 160, 112, 224, 24, 64, 64),  # 14 x 14 x 512
        inception("4c", 128, 128, 256, 24, 64, 64),  # 14 x 14 x 512
        inception("4d", 112, 144, 288, 32, 64, 64),  # 14 x 14 x 528
        inception("4e", 256, 160, 320, 32, 128, 128),  # 14 x 14 x 832
        MaxPool("pool4", 3, 2),
        inception("5a", 256, 160, 320, 32, 128, 128),  # 7 x 7 x 832
        inception("5b", 384, 192, 384, 48, 128, 128),  # 7 x 7 x 1024
    )
    if classes is None:
        return hidden
    return (
        *hidden,
        GlobalAverage("average"),  # 1024
        Dropout("dropout", 0.4),
        Dense("classifier", classes),  # classes
    )
