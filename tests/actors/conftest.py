from support.s3 import faults, root, s3_root, s3_server

__all__ = ["faults", "root", "s3_root", "s3_server"]
