"""A run or a study as it goes, read from the files that it writes and from nothing else."""
