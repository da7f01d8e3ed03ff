"""nnU-Net, the real one, in a Python environment and a process of its own (docs/decisions/0007).

process        starts it, asks it, ends it
worker         what runs there; never imported here
fingerprints   what a site tells of its data, and what the server makes of it
setup          what all sites agree on; travels in the experiment
cases          a case of Sammit's as nnU-Net wants it
"""
