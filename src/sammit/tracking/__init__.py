"""Trackers: where else a run is told of than in its folder; one file each, found by its name."""
