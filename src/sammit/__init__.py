"""Sammit: federated fine-tuning of the Segment Anything Model for medical images."""

__version__ = "0.1.0"
