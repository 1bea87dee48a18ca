"""Whether one system is better than another: ``earwitness compare``."""
