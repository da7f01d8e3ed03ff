"""Losses, the optimiser loop, inference over an image, and scores. Knows nothing of files or federations."""
