"""NVIDIA FLARE as the engine across hospitals: the only folder that imports it."""
