"""A study of costs: each row measured in a process of its own."""
