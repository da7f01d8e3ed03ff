"""Federated methods, one file each, both halves in it; a file's name is the method's name.

A file has `Options` (a frozen dataclass), `Method(base.Method)` and the texts PAPER, TRAVELS and STAYS.
"""
