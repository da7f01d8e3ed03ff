"""Networks: prompt-free Segment Anything, its encoder and adapters, where weights come from, and the sizes."""
