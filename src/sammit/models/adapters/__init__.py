"""Adapters of the encoder's blocks and of the decoder's attention, one file each; a file's name is the adapter's name.

A file has `Options` (a frozen dataclass, checked like the rest of a recipe) and `Adapter`. `Adapter(width, options)` is
a `base.BlockAdapter`, placed into blocks under `vision_encoder.layers.I.adapters.NAME`. In a file `decoder_NAME`,
`Adapter(width, inner, options)` is a `base.AttentionAdapter`, placed into each of the decoder's attentions under
`mask_decoder.transformer. ... .adapters.NAME`.
"""
