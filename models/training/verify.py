"""Checks what is really trained on: decodes the packed stream and looks for any run of ten lines of a held-out file in it.

usage: verify.py DATA_DIR [HELD_OUT_DIR]   (after pack.py; exit code 1 and the names of the files, if there are any)
"""
import sys
from pathlib import Path

import corpus
import rows
from tokenizer import Tokenizer


def copies(stream, tokenizer, held_out):
    """[(library, first line, how many windows)] of the stream's files that share a window with one of the texts."""
    forbidden = set().union(*map(corpus.windows, held_out))
    found = []
    for library, tokens in stream.files:
        text = tokenizer.decode(rows.plain(tokens).tolist())
        shared = len(corpus.windows(text) & forbidden)
        if shared:
            found.append((library, text.split("\n", 1)[0], shared))
    return found


def main(data, more=None):
    tokenizer = Tokenizer.load(data / "pack" / "tokenizer.json")
    held_out = corpus.texts(data / "heldout") + [corpus.clean(text) or text for text in corpus.texts(more)]
    stream = rows.Corpus(data / "pack", "train")
    found = copies(stream, tokenizer, held_out)
    for library, line, shared in found:
        print(f"{library}: {line}: {shared} windows")
    print(f"{len(stream.files)} files to train on, {len(held_out)} held out, {len(found)} with a near-copy")
    return 1 if found or not held_out or not stream.files else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
