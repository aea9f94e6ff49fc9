"""The bytes of TIFF and PNG files, where Pillow refuses what can be read."""

import struct

PNG = b"\x89PNG\r\n\x1a\n"
"""What every PNG starts with."""

PHOTOMETRIC = 262
"""The TIFF tag that says whether 0 is white (0) or black (1)."""


def find_tag(content: bytes, tag: int) -> tuple[int, str] | None:
    """Where the single integer of an entry lies in the first directory of TIFF data, and its
    `struct` format; None if there is no such entry."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None:
        return None
    try:
        big = struct.unpack_from(f"{order}H", content, 2)[0] == 43
        offset = struct.unpack_from(f"{order}{'Q' if big else 'I'}", content, 8 if big else 4)[0]
        number = struct.unpack_from(f"{order}{'Q' if big else 'H'}", content, offset)[0]
        offset += 8 if big else 2
        for _ in range(number):
            found, kind = struct.unpack_from(f"{order}HH", content, offset)
            if found == tag and kind in (1, 3, 4):
                entry = offset + (12 if big else 8), order + {1: "B", 3: "H", 4: "I"}[kind]
                struct.unpack_from(entry[1], content, entry[0])
                return entry
            offset += 20 if big else 12
    except struct.error:  # the data end earlier
        pass
    return None


def as_black_is_zero(content: bytes) -> bytes | None:
    """A WhiteIsZero TIFF that says BlackIsZero, its samples unchanged; None for other data."""
    entry = find_tag(content, PHOTOMETRIC)
    if entry is None or struct.unpack_from(entry[1], content, entry[0])[0] != 0:
        return None
    patched = bytearray(content)
    struct.pack_into(entry[1], patched, entry[0], 1)
    return bytes(patched)


def without_texts(content: bytes) -> bytes:
    """A PNG without its texts and color profile."""
    kept, position = [content[: len(PNG)]], len(PNG)
    while position + 8 <= len(content):
        end = position + 12 + int.from_bytes(content[position : position + 4])
        if content[position + 4 : position + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(content[position:end])
        position = end
    return b"".join(kept)
