"""Byte pairs for Java: trains the vocabulary, encodes and decodes. The pieces in which no pair is merged across are those of llama.cpp's
pre-tokenizer "qwen2" (src/llama-vocab.cpp): a blank or sign goes with the word behind it, line ends with the signs before them, the rest
of an indentation is a piece of its own, digits stand alone.

usage: tokenizer.py DATA_DIR   (after corpus.py; writes DATA_DIR/tokenizer.json)
"""
import heapq
import json
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import corpus

SIZE = 16384
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
END, TURN, TURN_END, PREFIX, SUFFIX, MIDDLE = range(len(SPECIAL))
TRAINING_CHARS = 50_000_000     # of the texts, every so many files of all
RAREST = 4                      # words seen less often teach nothing


def character_class(kind):
    """The inside of a regular expression's brackets for a general category of Unicode."""
    ranges = []
    for code in range(0x110000):
        if unicodedata.category(chr(code))[0] == kind:
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


L, N = character_class("L"), character_class("N")
WORD = re.compile(rf"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])|[^\r\n{L}{N}]?[{L}]+|[{N}]| ?[^\s{L}{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

# GPT-2's way to write bytes as characters: itself where it prints, else from U+0100 on
PRINTING = {*range(33, 127), *range(161, 173), *range(174, 256)}
BYTE_CHARACTERS = {byte: chr(byte) for byte in PRINTING} | {
    byte: chr(256 + i) for i, byte in enumerate(sorted(set(range(256)) - PRINTING))}
CHARACTER_BYTES = {character: byte for byte, character in BYTE_CHARACTERS.items()}


def merged(word, pair, new):
    """The word with every occurrence of the pair replaced, from the left."""
    out, i = [], 0
    while i < len(word):
        if i + 1 < len(word) and word[i] == pair[0] and word[i + 1] == pair[1]:
            out.append(new)
            i += 2
        else:
            out.append(word[i])
            i += 1
    return out


def train(counts, merges):
    """
    Byte-pair merges [(left, right)] of token numbers, the most frequent pair first, of equal ones the smaller. Numbers below 256 are bytes,
    256 + i is the result of merge i. `counts`: word (bytes) -> how often.
    """
    words = [list(word) for word in counts]
    weights = list(counts.values())
    frequency, places = Counter(), defaultdict(set)
    for i, word in enumerate(words):
        for pair in pairwise(word):
            frequency[pair] += weights[i]
            places[pair].add(i)
    queue = [(-count, pair) for pair, count in frequency.items()]
    heapq.heapify(queue)
    result = []
    while len(result) < merges and queue:
        count, pair = heapq.heappop(queue)
        if -count != frequency[pair]:       # it has changed since it was queued, and was queued again
            continue
        if count == 0:
            break
        new = 256 + len(result)
        result.append(pair)
        changed = set()
        for i in places.pop(pair):
            before, after = words[i], merged(words[i], pair, new)
            words[i] = after
            for old in pairwise(before):
                frequency[old] -= weights[i]
                changed.add(old)
            for now in pairwise(after):
                frequency[now] += weights[i]
                places[now].add(i)
                changed.add(now)
        for other in changed:
            heapq.heappush(queue, (-frequency[other], other))
    return result


class Tokenizer:
    """Token numbers: SPECIAL, the 256 bytes, then one for each merge."""

    def __init__(self, merges):
        first = len(SPECIAL)
        self.merges = [tuple(pair) for pair in merges]
        self.pieces = [piece.encode() for piece in SPECIAL] + [bytes([byte]) for byte in range(256)]
        for left, right in self.merges:
            self.pieces.append(self.pieces[first + left] + self.pieces[first + right])
        self.ranks = {(first + left, first + right): rank for rank, (left, right) in enumerate(self.merges)}
        self.known = {}

    @classmethod
    def load(cls, file):
        return cls(json.loads(Path(file).read_text()))

    def save(self, file):
        Path(file).write_text(json.dumps(self.merges, separators=(",", ":")))

    def word(self, text):
        first = len(SPECIAL)
        ids = [first + byte for byte in text.encode()]
        while len(ids) > 1:
            best = min(pairwise(ids), key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            ids = merged(ids, best, first + 256 + self.ranks[best])
        return ids

    def encode(self, text):
        """Plain text; the spelling of a special token is text too."""
        ids, known = [], self.known
        for word in WORD.findall(text):
            if word not in known:
                known[word] = self.word(word)
            ids += known[word]
        return ids

    def decode(self, ids):
        return b"".join(self.pieces[i] for i in ids).decode("utf-8", "replace")

    def spelled(self, i):
        """The token as a GGUF file writes it."""
        return SPECIAL[i] if i < len(SPECIAL) else "".join(BYTE_CHARACTERS[byte] for byte in self.pieces[i])

    def spelled_merges(self):
        first = len(SPECIAL)
        return [f"{self.spelled(first + left)} {self.spelled(first + right)}" for left, right in self.merges]


def main(data):
    texts = [file["text"] for file in corpus.load(data / "train.jsonl")]
    step = max(1, sum(map(len, texts)) // TRAINING_CHARS)
    words = Counter()
    for text in texts[::step]:
        words.update(WORD.findall(text))
    merges = train({word.encode(): count for word, count in words.items() if count >= RAREST}, SIZE - len(SPECIAL) - 256)
    tokenizer = Tokenizer(merges)
    tokenizer.save(data / "tokenizer.json")
    sample = "".join(texts[1::997])
    ids = tokenizer.encode(sample)
    if tokenizer.decode(ids) != sample:
        sys.exit("decoding does not give back the text")
    print(f"{len(tokenizer.pieces)} tokens from {len(words)} words; {len(sample.encode()) / len(ids):.3f} bytes per token")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
