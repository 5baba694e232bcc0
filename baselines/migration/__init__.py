"""Rules that move running requests: which replica gives one, and which one gets it?"""

from ..policy import Factory
from .pairing import LlumnixMigration, NoMigration

BASELINES: dict[str, Factory] = {
    "none": NoMigration,
    "llumnix": LlumnixMigration,
}
