"""How low-rank factors of several sites become one: a second axis, beside the method.

A file is an aggregator when it defines `Aggregator`; its name is the module's name. A recipe chooses it with
`method.aggregator`; its options are in `[method.NAME]`.
"""
