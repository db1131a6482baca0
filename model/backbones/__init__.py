"""Convolutional networks: as tables of layers, as Keras models, and as files."""
