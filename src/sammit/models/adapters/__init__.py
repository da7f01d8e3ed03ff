"""Adapters of the encoder's blocks, one file each; a file's name is the adapter's name.

A file has `Options` (a frozen dataclass, checked like the rest of a recipe) and `Adapter(width, options)`, a
`base.BlockAdapter`. It is placed into every block under `vision_encoder.layers.I.adapters.NAME`.
"""
