"""Listings of an assembler, by the class that each instruction is to have."""


def listed(text: str) -> list[tuple[int, str, str]]:
    """Return (encoding, instruction, class) of every line; "# class" heads the lines of one."""
    found, name = [], ""
    for line in text.strip().splitlines():
        if line.startswith("# "):
            name = line[2:]
        else:
            encoding, _, instruction = line.partition(" ")
            found.append((int(encoding, 16), instruction, name))
    return found
