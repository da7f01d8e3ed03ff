"""Published datasets, read as they are released and written as a folder of sites."""

from sammit.data.prepare.making import prepare

__all__ = ["prepare"]
