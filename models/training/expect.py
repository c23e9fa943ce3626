"""Writes what a trained GGUF must do, for `bench/run models --expected`: the tokens of every held-out file and of awkward texts, by
tokenizer.py, and logits of PyTorch.

usage: expect.py DATA_DIR TRAINED_DIR OUT_DIR [HELD_OUT_DIR]   (TRAINED_DIR: what train.py wrote; HELD_OUT_DIR: more Java files)
"""
import sys
from pathlib import Path

import numpy as np

from tokenizer import Tokenizer

AWKWARD = ["\n\n\n", " ", "       seven", "\tif (a)\n\t\treturn;\r\n", "é 漢字 \U0001f600 ß½²", "a\n\n        b\n", "x" * 300, " " * 137 + "y",
           "it's we'LL 12345.67e-8f 0xFFL", "/*-*/{}()[];\n\n\n}",
           "\u00a0\u2003wide", "<|im_end|>", "\"\\u0041\" '\\'' /** {@code <p>} */"]


def main(data, trained, out, more=None):
    tokenizer = Tokenizer.load(data / "tokenizer.json")
    (out / "texts").mkdir(parents=True, exist_ok=True)
    files = [file for folder in (data / "heldout", more) if folder for file in sorted(folder.rglob("*.java"))]
    with open(out / "tokens.txt", "w") as tokens:
        for i, text in enumerate(AWKWARD + [file.read_bytes().decode() for file in files]):
            (out / "texts" / f"{i}.java").write_bytes(text.encode())
            print(f"texts/{i}.java", " ".join(map(str, tokenizer.encode(text))), sep="\t", file=tokens)
    arrays = np.load(trained / "reference.npz")
    for name in {key.rsplit(" ", 1)[0] for key in arrays} - {"prompt"}:
        with open(out / ("base.logits" if name == "base" else f"java-small-{name}-lora.gguf.logits"), "w") as file:
            for i in range(sum(key.startswith("prompt ") for key in arrays)):
                logits = arrays[f"{name} {i}"]
                print("prompt", len(logits), *arrays[f"prompt {i}"], file=file)
                for row in logits:
                    print(*map(repr, row.tolist()), file=file)
    print(f"{len(AWKWARD) + len(files)} texts")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
