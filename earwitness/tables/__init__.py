"""The papers' tables, and ours beside them: ``earwitness table``."""
