import earwitness  # noqa: F401 - which sets the process up, before torch is loaded
