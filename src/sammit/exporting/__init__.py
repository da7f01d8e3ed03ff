"""A run's model for others: one file a format, found by its name.

A file has `export(trained, out)`: it writes the model of a `trained.Trained` into the empty folder `out`, with what a
reader needs to use it without Sammit. "-" in a format's name stands for "_" in its file's.
"""
