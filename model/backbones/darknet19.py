"""Darknet-19, the classifier of YOLO9000 (Redmon and Farhadi 2016, table 6), as a table of layers.

All hidden convolutions have batch normalisation and a leaky activation; the last makes one plane per class.
The shapes are for an input of 224 x 224 x 3 at full width. The 18 hidden convolutions have 7,200 channels in all.
"""

from __future__ import annotations

from lookalike.model.backbones.layers import Conv, GlobalAverage, MaxPool, Table, scaled


def table(width: float = 1.0, classes: int | None = None) -> Table:
    """Write out the network.

    Parameters
    ----------
    width : float
        Multiplies the filters of every hidden convolution.
    classes : int or None
        None leaves out the classifier, ``conv19`` and what follows.

    Returns
    -------
    Table
        Layers in the order in which a photo passes them.
    """

    def f(filters: int) -> int:
        return scaled(filters, width)

    hidden: Table = (
        Conv("conv1", f(32), 3),  # 224 x 224 x 32
        MaxPool("pool1", 2, 2),
        Conv("conv2", f(64), 3),  # 112 x 112 x 64
        MaxPool("pool2", 2, 2),
        Conv("conv3", f(128), 3),  # 56 x 56 x 128
        Conv("conv4", f(64), 1),
        Conv("conv5", f(128), 3),
        MaxPool("pool3", 2, 2),
        Conv("conv6", f(256), 3),  # 28 x 28 x 256
        Conv("conv7", f(128), 1),
        Conv("conv8", f(256), 3),
        MaxPool("pool4", 2, 2),
        Conv("conv9", f(512), 3),  # 14 x 14 x 512
        Conv("conv10", f(256), 1),
        Conv("conv11", f(512), 3),
        Conv("conv12", f(256), 1),
        Conv("conv13", f(512), 3),
        MaxPool("pool5", 2, 2),
        Conv("conv14", f(1024), 3),  # 7 x 7 x 1024
        Conv("conv15", f(512), 1),
        Conv("conv16", f(1024), 3),
        Conv("conv17", f(512), 1),
        Conv("conv18", f(1024), 3),
    )
    if classes is None:
        return hidden
    return (
        *hidden,
        Conv("conv19", classes, 1, batch_norm=False, activation="linear"),  # 7 x 7 x classes
        GlobalAverage("average"),  # classes
    )
