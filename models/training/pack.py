"""Texts -> one stream of tokens, compressed, to be carried to the machine with the GPU.

usage: pack.py DATA_DIR [SHARE]   (after tokenizer.py; SHARE of the files, all of them without it, where what may be carried is limited)
writes DATA_DIR/pack/train.xz and heldout.xz, 16-bit little-endian words, libraries.json and a copy of tokenizer.json

The stream keeps the order of the text, so that it compresses like the text: LIBRARY, then for each file FILE and its tokens, parts of it
between OPEN and CLOSE, which may be cut out to be filled in; then CHAT and a conversation, any number of times. The marks lie beyond the
vocabulary. Parts to fill in are chosen by characters, not tokens: who completes a line stands anywhere in a word.
"""
import hashlib
import json
import lzma
import re
import shutil
import sys
from array import array
from functools import lru_cache
from itertools import groupby
from multiprocessing import Pool
from pathlib import Path
from random import Random

import corpus
from javadoc import questions
from tokenizer import SIZE, TURN, TURN_END, Tokenizer

LIBRARY, FILE, OPEN, CLOSE, CHAT = range(SIZE, SIZE + 5)
BETWEEN_PARTS = 900             # characters, on average
CHATS_PER_FILE = 3
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 28, "lc": 0, "lp": 1, "pb": 1, "nice_len": 273}]
SYSTEM = ["You are a helpful assistant.", "You answer questions about Java.", "You are a Java programmer."]


def parts(text, random):
    """[(from, to)] in characters: ends of lines, blocks, whole lines and any spans, in order and apart from each other."""
    result, at = [], 0
    while True:
        at += int(random.expovariate(1 / BETWEEN_PARTS)) + 40
        if at >= len(text) - 2:
            return result
        kind, end = random.random(), text.find("\n", at)
        if kind < 0.45:                                             # the rest of a line, from anywhere in it
            start, stop = at, end
        elif kind < 0.65:                                           # a block's inside
            opened = re.compile(r"\{\n *").search(text, at)
            start = opened.end() if opened else len(text)
            depth = 1
            for stop in range(start, min(len(text), start + 600)):
                depth += {"{": 1, "}": -1}.get(text[stop], 0)
                if depth == 0:
                    break
            if depth:
                continue
            stop = start + len(text[start:stop].rstrip())
        elif kind < 0.85:                                           # one to four lines
            start = end + 1 + len(text[end + 1:]) - len(text[end + 1:].lstrip())
            stop = start
            for _ in range(random.choice((1, 1, 2, 3, 4))):
                stop = text.find("\n", stop + 1)
                if stop < 0:
                    break
        else:
            start, stop = at, min(len(text) - 1, at + random.choice((4, 12, 30, 60, 120, 200)))
        if 0 < start < stop < len(text) and text[start:stop].strip():
            result.append((start, stop))
            at = stop


def conversation(tokenizer, pairs, random):
    ids = [CHAT]
    turns = [("system", random.choice(SYSTEM))] if random.random() < 0.1 else []
    for role, text in turns + [turn for question, answer in pairs for turn in (("user", question), ("assistant", answer))]:
        ids += [TURN, *tokenizer.encode(f"{role}\n{text}"), TURN_END, *tokenizer.encode("\n")]
    return ids


def file_tokens(tokenizer, library, path, text):
    """The tokens of one file with its marks and conversations; the same for the same file, whatever else is packed."""
    random = Random(corpus.digest(library, path))
    ids, at = [FILE], 0
    for start, stop in parts(text, random):
        ids += [*tokenizer.encode(text[at:start]), OPEN, *tokenizer.encode(text[start:stop]), CLOSE]
        at = stop
    ids += tokenizer.encode(text[at:])
    pairs = questions(text, Path(path).stem, random)
    pairs = random.sample(pairs, min(len(pairs), CHATS_PER_FILE))
    while pairs:
        count = 1 if random.random() < 0.8 else 2
        ids += conversation(tokenizer, pairs[:count], random)
        pairs = pairs[count:]
    return ids


load_tokenizer = lru_cache(Tokenizer.load)      # once in each process: it remembers the words that it has cut


def library_tokens(work):
    tokenizer_file, library, files = work
    tokenizer = load_tokenizer(tokenizer_file)
    return library, array("H", [LIBRARY, *(i for path, text in files for i in file_tokens(tokenizer, library, path, text))])


def stream(data, split, share, pool):
    """([library], words). `share`: of the files, chosen by hash."""
    kept = (file for file in corpus.load(data / f"{split}.jsonl")
            if corpus.digest(file["library"], file["path"] + " share") % 10_000 < share * 10_000)
    work = [(data / "tokenizer.json", library, sorted((file["path"], file["text"]) for file in group))
            for library, group in groupby(kept, key=lambda file: file["library"])]
    libraries, words = [], array("H")
    for library, ids in pool.imap(library_tokens, work):
        libraries.append(library)
        words += ids
    return libraries, words


def compressed(words):
    return lzma.compress(words.tobytes(), lzma.FORMAT_XZ, filters=FILTERS)


def main(data, share=1.0):
    out = data / "pack"
    out.mkdir(exist_ok=True)
    with Pool(2) as pool:
        libraries, words = stream(data, "train", share, pool)
        held_libraries, held = stream(data, "heldout", 1, pool)
    packed = compressed(words)
    shutil.copy(data / "tokenizer.json", out)
    (out / "train.xz").write_bytes(packed)
    (out / "heldout.xz").write_bytes(compressed(held))
    sha = {name: hashlib.sha256(words.tobytes()).hexdigest() for name, words in (("train", words), ("heldout", held))}
    (out / "libraries.json").write_text(json.dumps(dict(train=libraries, heldout=held_libraries, share=share, sha256=sha), indent=1))
    tokens = sum(word < SIZE for word in words)
    print(f"{tokens:,} tokens to train on ({100 * share:g} % of the files), {len(packed) / 2 ** 20:.1f} MiB packed; held out {len(held):,}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(float, sys.argv[2:]))
