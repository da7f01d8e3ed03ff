"""The version of this package, as messages, masks and `sammit --version` state it."""

VERSION = "0.1.0"
