"""From per-case scores to what a reader sees: statistics, summaries, tables, figures and one HTML file."""
