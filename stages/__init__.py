"""One file a stage; each is a command that DVC runs."""

import os

# before torch is loaded: threads that spin while they wait slow every other job on the machine
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
