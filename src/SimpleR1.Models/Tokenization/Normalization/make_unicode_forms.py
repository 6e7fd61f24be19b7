"""Writes unicode_forms.txt: decompositions, exclusions from composition, and combining classes.

The Unicode data is that of the Python that runs this.
"""

import sys
import unicodedata as u

out = open("unicode_forms.txt", "w", encoding="ascii", newline="\n")
out.write(
    f"# Unicode {u.unidata_version}, made by make_unicode_forms.py: D code parts... (canonical decomposition), "
    "X ... (the same, never composed), K ... (compatibility decomposition), C class first last\n"
)
for c in range(sys.maxunicode + 1):
    if 0xAC00 <= c <= 0xD7A3:
        continue  # Hangul is arithmetic
    d = u.decomposition(chr(c))
    if d and not d.startswith("<"):
        kind = "D" if u.normalize("NFC", chr(c)) == chr(c) else "X"
        out.write(f"{kind} {c:X} {d}\n")
    elif d:
        out.write(f"K {c:X} {d.split('> ')[1]}\n")
start = None
for c in range(sys.maxunicode + 2):
    k = u.combining(chr(c)) if c <= sys.maxunicode else 0
    if start and (k != start[0] or c != start[2] + 1):
        out.write(f"C {start[0]} {start[1]:X} {start[2]:X}\n")
        start = None
    if k:
        start = (k, start[1], c) if start else (k, c, c)
