"""nnU-Net's side of the boundary: run by the Python of nnU-Net's environment, never imported by Sammit.

It knows nnunetv2, torch, numpy, safetensors and the standard library, and nothing of Sammit. Letters: c channels of the
image, C structures, D slices, H, W rows and columns; spacing is (slice, row, column).
"""
