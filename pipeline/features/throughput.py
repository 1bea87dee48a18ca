"""How long an extraction took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Report:
    """Of ``seconds``, the encoder was at work for ``encoder_seconds``; the rest it waited."""

    unit: str = "clips"
    count: int = 0
    seconds: float = 0.0
    encoder_seconds: float = 0.0

    def __str__(self) -> str:
        if not self.count:
            return f"all {self.unit} were there"
        rate, share = self.count / self.seconds, self.encoder_seconds / self.seconds
        return (
            f"{self.count} {self.unit}, {rate:.1f} a second, {share:.0%} of the time in the encoder"
        )
