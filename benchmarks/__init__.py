"""One script for each published figure; each prints medians and ratios and says on what machine."""
