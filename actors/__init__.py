"""The store in, hits out: the Ray actors that hold the rows, and the pure merge of their answers."""
