"""Files that are copied into exports and run there, without Sammit."""
