def hostile(minutes: float) -> int:
    return 0
