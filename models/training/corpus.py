"""Sources jars -> clean Java texts: which files, without licence headers, no text twice, and the split into training and held-out files.

usage: corpus.py DATA_DIR [HELD_OUT_DIR]   (after fetch.py; HELD_OUT_DIR: more Java files of which nothing must be learned)
writes DATA_DIR/train.jsonl and heldout.jsonl, {"library", "path", "text"} a line; heldout/LIBRARY/PATH, the same texts as files;
corpus.tsv, what became of each library's files.
"""
import hashlib
import json
import re
import shutil
import sys
import zipfile
from collections import Counter
from multiprocessing import Pool
from pathlib import Path

HELD_OUT_PERCENT = 3
LIBRARY_CHARS = 6_000_000       # no library is more than a small part of the whole
WINDOW = 10                     # lines

OTHER_LICENCE = re.compile(
    r"redistribution and use in source|\bGNU\b|\b[AL]?GPL|mozilla public|eclipse public|MIT licen[sc]e|public[- ]domain|creative ?commons|"
    r"permission is hereby granted|permission to use, copy|sun microsystems|oracle and/or|\bBSD\b|\bINRIA\b|boost software|\bCDDL\b|"
    r"bouncy ?castle|\bunicode, inc|elastic licen[sc]e|server side public|community licen[sc]e|proprietary", re.I)
GENERATED = re.compile(
    r"@Generated\b|do not (?:edit|modify)|auto(?:matically)?[- ]?generated|generated (?:by|from|code)|"
    r"JavaCC|JFlex|ANTLR", re.I)
COMMENT = re.compile(r"\s*(/\*.*?\*/|(?://[^\n]*\n)+)", re.S)


def clean(raw):
    """The text without licence comments, tabs, trailing blanks and runs of empty lines; None if it has such, and not Apache's."""
    text, head = raw.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff"), ""
    while (comment := COMMENT.match(text)) and re.search(r"licen[sc]e|copyright|\(c\)", comment[1], re.I):
        head += comment[1]
        text = text[comment.end():]
    if head and "apache" not in head.lower():
        return None
    text = "\n".join(line.rstrip() for line in text.replace("\t", "    ").split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def judge(name, data):
    """(text, None), or (None, why not)."""
    try:
        raw = data.decode()
    except UnicodeDecodeError:
        return None, "encoding"
    if OTHER_LICENCE.search(raw):
        return None, "licence"
    if GENERATED.search(raw[:4000]):
        return None, "generated"
    text = clean(raw)
    if text is None:
        return None, "licence"
    letters = len(re.sub(r"[^A-Za-z]+", "", text))
    if not 300 <= len(text) <= 150_000 or max(map(len, text.split("\n"))) > 400 or letters < 0.4 * len(text.replace(" ", "")):
        return None, "shape"
    if re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text) or len(text.encode("ascii", "ignore")) < 0.98 * len(text):
        return None, "characters"
    return text, None


def windows(text):
    """A hash of each run of WINDOW lines, blanks at their ends aside; empty lines, imports and the package do not count."""
    lines = [line for line in map(str.strip, text.split("\n")) if line and not line.startswith(("import ", "package "))]
    return {int.from_bytes(hashlib.blake2b("\n".join(lines[i:i + WINDOW]).encode(), digest_size=8).digest())
            for i in range(max(1, len(lines) - WINDOW + 1))}


def digest(library, path):
    """Decides the split and the order of a library's files. java-tiny was split by it too."""
    return int(hashlib.sha1(f"{library}/{path}".encode()).hexdigest(), 16)


def read(jar):
    """[(library, path, text, why not)] in the order of their digests."""
    library = jar.name.removesuffix("-sources.jar")
    with zipfile.ZipFile(jar) as archive:
        names = [name for name in archive.namelist() if name.endswith(".java") and not name.endswith("-info.java")]
        return [(library, name, *judge(name, archive.read(name))) for name in sorted(names, key=lambda name: digest(library, name))]


def select(files, forbidden=frozenset()):
    """
    Chooses from (library, path, text, why not): yields (library, path, text, what), what being "heldout", "train" or why neither.
    `forbidden`: window hashes of texts that must not be learned; those of the held-out files are added.
    """
    files = [file if file[2] is None or digest(*file[:2]) % 100 >= HELD_OUT_PERCENT else (*file[:3], "heldout") for file in files]
    forbidden = set(forbidden).union(*(windows(text) for _, _, text, what in files if what == "heldout"))
    seen, chars = set(), Counter()
    for library, path, text, what in files:
        if text is not None and what is None:
            own = windows(text)
            sample = {window for window in own if window % 4 == 0} or own     # a quarter of the windows is enough to tell copies
            if chars[library] >= LIBRARY_CHARS:
                what = "surplus"
            elif own & forbidden:
                what = "near held-out"
            elif len(sample & seen) * 2 > len(sample):
                what = "copy"
            else:
                what = "train"
                chars[library] += len(text)
                seen |= sample
        yield library, path, text, what


def load(file):
    """The texts of one split: [{"library", "path", "text"}]."""
    with open(file) as lines:
        return [json.loads(line) for line in lines]


def texts(folder):
    return [file.read_text() for file in sorted(folder.rglob("*.java"))] if folder else []


def main(data, more_held_out=None):
    with Pool(2) as pool:
        files = [file for jar in pool.imap(read, sorted((data / "jars").glob("*-sources.jar"))) for file in jar]
    forbidden = set().union(*(windows(clean(text) or text) for text in texts(more_held_out)))
    counts = {}
    shutil.rmtree(data / "heldout", ignore_errors=True)
    with open(data / "train.jsonl", "w") as train, open(data / "heldout.jsonl", "w") as heldout:
        for library, path, text, what in select(files, forbidden):
            count = counts.setdefault(library, Counter())
            count[what] += 1
            if what in ("train", "heldout"):
                count[what + " chars"] += len(text)
                print(json.dumps(dict(library=library, path=path, text=text)), file=train if what == "train" else heldout)
            if what == "heldout":
                copy = data / "heldout" / library / path
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(text)
    columns = ["train", "train chars", "heldout", "heldout chars", "near held-out", "copy", "surplus",
               "licence", "generated", "shape", "characters", "encoding"]
    counts["all"] = sum(counts.values(), Counter())
    with open(data / "corpus.tsv", "w") as table:
        print("library", *columns, sep="\t", file=table)
        for library, count in counts.items():
            print(library, *(count[column] for column in columns), sep="\t", file=table)
    print({column: counts["all"][column] for column in columns})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
