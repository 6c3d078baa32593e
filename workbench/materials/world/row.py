"""One exchange of the pocket world, and the rule that says on which side of the split it stands."""

import zlib
from dataclasses import dataclass

HELD_OUT_SHARE = 10  # one key in ten is never trained on


@dataclass(frozen=True)
class Row:
    """What is asked, the only right answer, its skill, and the key that decides its split.

    A row is held out when a hash of its key says so, whatever its skill, so no other way of putting a held-out row is ever in
    training: the key of a sum is its operands in order of size, of an operation its words, of a translation the English, of a
    fact the entity, the field and the wording (in every style), of a tale the person. A row without a key is always trained on.
    """

    skill: str
    prompt: str
    answer: str
    key: str
    system: str = ""

    @property
    def held_out(self) -> bool:
        return bool(self.key) and zlib.crc32(self.key.encode()) % HELD_OUT_SHARE == 0

    def asked(self) -> list[dict[str, str]]:
        """The messages a model is given before it answers."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.prompt}]

    def messages(self) -> list[dict[str, str]]:
        return [*self.asked(), {"role": "assistant", "content": self.answer}]
