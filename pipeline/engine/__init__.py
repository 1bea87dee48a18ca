"""Where stages compute: in this process, or on the workers of a Ray cluster."""
