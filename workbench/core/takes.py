"""How many models a merge takes, and what is said where a spec names others. Which models are meant: `methods/contracts.py`."""


def miscounted(title: str, least: int, most: int, count: int) -> list[str]:
    """A sentence if `count` tuned models are too few or too many."""
    if least <= count <= most:
        return []
    few = count < least
    limit = f"needs at least {least} tuned models" if few else f"takes at most {most} tuned model{'s' * (most > 1)}"
    return [f"{title} {limit}, and the spec names {count}. {'Add models' if few else 'Leave some out'}, or choose another method."]
