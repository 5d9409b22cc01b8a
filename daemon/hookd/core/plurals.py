"""Owns how a number stands before its noun, in reports and in what commands say."""


def plural(noun: str, number: int) -> str:
    """The noun as it stands behind the number: 1 delivery, 2 deliveries, 0 matches."""
    if number == 1:
        return noun
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "ch", "sh", "x")) else f"{noun}s"


def counted(number: int, noun: str) -> str:
    """1 delivery, 12,345 deliveries"""
    return f"{number:,} {plural(noun, number)}"


def are(number: int, noun: str) -> str:
    """1 delivery is, 2 deliveries are"""
    return f"{counted(number, noun)} {'is' if number == 1 else 'are'}"
