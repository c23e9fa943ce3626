"""Packed stream -> rows of tokens to train on: half of the files in two cuts for fill-in-the-middle, another half in each epoch; a tenth
Javadoc conversations."""
import hashlib
import json
import lzma
from pathlib import Path
from random import Random

import numpy as np

from pack import CHAT, CLOSE, FILE, LIBRARY, OPEN
from tokenizer import END, MIDDLE, PREFIX, SIZE, SUFFIX

CHAT_SHARE = 0.1
LONGEST_PART = 256              # tokens


class Corpus:
    """files: [(library, marked tokens)], chats: [tokens]."""

    def __init__(self, pack, split):
        about = json.loads(Path(pack, "libraries.json").read_text())
        raw = lzma.decompress(Path(pack, split + ".xz").read_bytes())
        if hashlib.sha256(raw).hexdigest() != about["sha256"][split]:
            raise ValueError(f"{pack}/{split}.xz: not the stream that was packed; its SHA-256 differs")
        words = np.frombuffer(raw, "<u2")
        self.files, self.chats, library = [], [], -1
        starts = np.flatnonzero((words == LIBRARY) | (words == FILE) | (words == CHAT))
        for start, stop in zip(starts, [*starts[1:], len(words)]):
            kind, tokens = words[start], words[start + 1:stop]
            if kind == LIBRARY:
                library += 1
            elif kind == FILE:
                self.files.append((about[split][library], tokens))
            else:
                self.chats.append((about[split][library], tokens))

    def of(self, prefix):
        """The files of the libraries whose names begin so."""
        some = object.__new__(Corpus)
        some.files = [file for file in self.files if file[0].startswith(prefix)]
        some.chats = [chat for chat in self.chats if chat[0].startswith(prefix)]
        return some


def plain(tokens):
    return tokens[tokens < SIZE]


def cuts(tokens, random, longest):
    """Fill-in-the-middle samples of a marked file, at most `longest` tokens each, prefix and suffix in either order."""
    opens, closes = np.flatnonzero(tokens == OPEN), np.flatnonzero(tokens == CLOSE)
    at, last = 0, -1
    while last + 1 < len(opens):
        room = random.randint(longest // 4, longest) - 4
        # one of the marked parts that begin within the room, from `at` on
        within = [i for i in range(last + 1, len(opens)) if opens[i] < at + room * 9 // 10]
        chosen = random.choice(within) if within else last + 1
        start, stop = opens[chosen], closes[chosen]
        middle = tokens[start + 1:stop]
        if len(middle) <= min(LONGEST_PART, room // 2):
            before = plain(tokens[max(at, start - room):start])
            after = plain(tokens[stop + 1:stop + 1 + room])
            rest = room - len(middle)
            # what is behind gets what the text before it leaves, and at least a quarter
            after = after[:max(rest - len(before), rest // 4)]
            before = before[max(0, len(before) - (rest - len(after))):]
            first, second = ([PREFIX], before), ([SUFFIX], after)
            if random.random() < 0.5:
                first, second = second, first
            yield np.concatenate([*first, *second, [MIDDLE], middle, [END]]).astype(np.uint16)
            at = stop + 1 + len(after)
        last = max(chosen, int(np.searchsorted(opens, at)) - 1)


def filled(samples, text, length):
    """(rows of length + 1, rest of the text): whole samples, and pieces of the text where the next one has no room."""
    done, row, room, at = [], [], length + 1, 0
    for sample in samples:
        if len(sample) > room:
            if at + room > len(text):
                break
            done.append(np.concatenate([*row, text[at:at + room]]))
            at += room
            row, room = [], length + 1
        row.append(sample)
        room -= len(sample)
    return done, text[at:]


def stream(text, length):
    """Rows of length + 1; each begins with the last token of the one before."""
    return [text[i:i + length + 1] for i in range(0, len(text) - length, length)]


def epoch(corpus, number, length, fim=True, chat=True, seed=1):
    """[rows, length + 1], in random order, the same for the same number."""
    random = Random(f"{seed} {number}")
    order = random.sample(range(len(corpus.files)), len(corpus.files))
    cut = [i for i in order if fim and (i + number) % 2]
    text = end_to_end([plain(corpus.files[i][1]) for i in order if not fim or (i + number) % 2 == 0])
    rows, text = filled((sample for i in cut for sample in cuts(corpus.files[i][1], random, length)), text, length)
    rows += stream(text, length)
    if chat:
        rows += conversations(corpus, random, length)[:int(len(rows) * CHAT_SHARE / (1 - CHAT_SHARE))]
    random.shuffle(rows)
    return np.stack(rows)


def conversations(corpus, random, length):
    return stream(end_to_end([chat for _, chat in random.sample(corpus.chats, len(corpus.chats))]), length)


def end_to_end(texts):
    return np.concatenate([piece for text in texts for piece in ([END], text)]).astype(np.uint16)
