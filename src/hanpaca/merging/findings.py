"""What was found while base, adapters and tokenizer were compared."""

from dataclasses import dataclass, field

from hanpaca.errors import ArtifactError


@dataclass
class Findings:
    """What was found while base, adapters and tokenizer were compared."""

    faults: list[ArtifactError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def wrong(self, told: str, advice: str = "") -> None:
        """Keep a fault."""
        self.faults.append(ArtifactError(told, advice))
