"""A published table in one file: methods x datasets x unseen sites x seeds, each cell an ordinary run."""
