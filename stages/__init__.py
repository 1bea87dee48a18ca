"""One file a stage; each is a command that DVC runs."""

import earwitness  # noqa: F401 - which sets the process up, before torch is loaded
from stages.run import begin

begin()
