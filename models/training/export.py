"""Trained weights -> GGUF, version 3, as llama.cpp reads it: the model in F16 and Q8_0, the adapters in F16.

usage: export.py PACK_DIR OUT_DIR   (of OUT_DIR/checkpoint.pt, for a run that did not come to its end; train.py calls `write` itself)
"""
import json
import struct
import sys
from pathlib import Path

import numpy as np
import torch

from model import ADAPTER_ALPHA, CONFIG, TINY
from tokenizer import END, MIDDLE, PREFIX, SPECIAL, SUFFIX, TURN_END, Tokenizer

NAMES = dict(wq="attn_q", wk="attn_k", wv="attn_v", wo="attn_output", gate="ffn_gate", up="ffn_up", down="ffn_down")
F32, F16, Q8_0 = 0, 1, 8                            # ggml_type
FILE_TYPES = {F16: 1, Q8_0: 7}                      # llama_ftype
NORMAL, CONTROL = 1, 3                              # llama_token_type
ALIGNMENT = 32
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(of):
    """A metadata value with its type: bool, int (uint32), float (float32), str, and lists of int (int32) or str."""
    if isinstance(of, bool):
        return struct.pack("<I?", 7, of)
    if isinstance(of, int):
        return struct.pack("<II", 4, of)
    if isinstance(of, float):
        return struct.pack("<If", 6, of)
    if isinstance(of, str):
        return struct.pack("<I", 8) + string(of)
    if all(isinstance(each, int) for each in of):
        return struct.pack("<IIQ", 9, 5, len(of)) + struct.pack(f"<{len(of)}i", *of)
    return struct.pack("<IIQ", 9, 8, len(of)) + b"".join(map(string, of))


def blocks(matrix, kind):
    """Rows in a ggml type. Q8_0: for 32 weights a scale in f16 and whole numbers in 8 bits (ggml-quants.c, quantize_row_q8_0_ref)."""
    if kind == F32:
        return matrix.astype("<f4").tobytes()
    if kind == F16:
        return matrix.astype("<f2").tobytes()
    groups = matrix.astype(np.float32).reshape(-1, 32)
    scale = np.abs(groups).max(1, keepdims=True) / 127
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    out = np.empty(len(groups), [("scale", "<f2"), ("weights", "i1", 32)])
    out["scale"], out["weights"] = scale[:, 0], np.round(groups * inverse)
    return out.tobytes()


def write_file(file, metadata, tensors):
    """`tensors`: [(name, array, type)]"""
    written = [(name, array.shape, kind, blocks(array, kind)) for name, array, kind in tensors]
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(written), len(metadata))
    head += b"".join(string(key) + value(each) for key, each in metadata.items())
    at = 0
    for name, shape, kind, data in written:
        head += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, at)
        at += -(-len(data) // ALIGNMENT) * ALIGNMENT
    with open(file, "wb") as out:
        out.write(head + bytes(-len(head) % ALIGNMENT))
        for _, _, _, data in written:
            out.write(data + bytes(-len(data) % ALIGNMENT))


def neighbours(matrix, head):
    """Rows in the order of PyTorch's halves of a head -> llama.cpp's pairs of neighbours."""
    return matrix.reshape(-1, 2, head // 2, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)


def model_metadata(tokenizer, config, state):
    ids = range(len(tokenizer.pieces))
    held = ", ".join(f"{kind} {loss:.3f}" for kind, loss in state.get("heldout", {}).items())
    return {
        "general.architecture": "llama",
        "general.name": "Java small",
        "general.license": "apache-2.0",
        "general.description": f"A small language model of Java text, trained from scratch on {state['tokens'] / 1e6:.0f} million "
                               f"tokens of sources under the Apache License 2.0. Held-out loss in nats per token: {held or 'unknown'}.",
        "llama.context_length": config["context"],
        "llama.embedding_length": config["dim"],
        "llama.block_count": config["layers"],
        "llama.feed_forward_length": config["ffn"],
        "llama.attention.head_count": config["heads"],
        "llama.attention.head_count_kv": config["kv_heads"],
        "llama.attention.layer_norm_rms_epsilon": config["eps"],
        "llama.rope.dimension_count": config["dim"] // config["heads"],
        "llama.rope.freq_base": config["rope_base"],
        "llama.vocab_size": config["vocab"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": [tokenizer.spelled(i) for i in ids],
        "tokenizer.ggml.token_type": [CONTROL if i < len(SPECIAL) else NORMAL for i in ids],
        "tokenizer.ggml.merges": tokenizer.spelled_merges(),
        "tokenizer.ggml.bos_token_id": END,
        "tokenizer.ggml.eos_token_id": END,
        "tokenizer.ggml.eot_token_id": TURN_END,
        "tokenizer.ggml.padding_token_id": END,
        "tokenizer.ggml.fim_pre_token_id": PREFIX,
        "tokenizer.ggml.fim_suf_token_id": SUFFIX,
        "tokenizer.ggml.fim_mid_token_id": MIDDLE,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }


def model_tensors(weights, config, kind):
    head = config["dim"] // config["heads"]
    of = lambda name: weights[name].float().numpy()
    yield "token_embd.weight", of("embedding"), kind
    for i in range(config["layers"]):
        for norm in ("attn_norm", "ffn_norm"):
            yield f"blk.{i}.{norm}.weight", of(f"blocks.{i}.{norm}"), F32
        for name, written in NAMES.items():
            matrix = of(f"blocks.{i}.{name}.weight")
            yield f"blk.{i}.{written}.weight", neighbours(matrix, head) if name in ("wq", "wk") else matrix, kind
    yield "output_norm.weight", of("norm"), F32


def adapter_tensors(adapter, config):
    for (i, name), (a, b) in adapter.items():
        b = neighbours(b.numpy(), config["dim"] // config["heads"]) if name in ("wq", "wk") else b.numpy()
        yield f"blk.{i}.{NAMES[name]}.weight.lora_a", a.numpy(), F16
        yield f"blk.{i}.{NAMES[name]}.weight.lora_b", b, F16


def write(out, tokenizer, weights, config, state, adapters):
    metadata = model_metadata(tokenizer, config, state)
    for kind, name in ((F16, "f16"), (Q8_0, "q8_0")):
        tensors = list(model_tensors(weights, config, kind))
        write_file(out / f"java-small-{name}.gguf", metadata | {"general.file_type": FILE_TYPES[kind]}, tensors)
    for name, adapter in adapters.items():
        about = state[name]
        write_file(out / f"java-small-{name}-lora.gguf", {
            "general.architecture": "llama", "general.type": "adapter",
            "general.name": f"Java small, {name}", "general.license": "apache-2.0",
            "general.description": f"A low-rank adapter for Java small, trained on {about['tokens'] / 1e6:.1f} million tokens. "
                                   f"Held-out loss without it {about['before']}, with it {about['after']}.",
            "adapter.type": "lora", "adapter.lora.alpha": ADAPTER_ALPHA}, list(adapter_tensors(adapter, config)))


def main(pack, out):
    saved = torch.load(out / "checkpoint.pt", map_location="cpu")
    config = next(config for config in (CONFIG, TINY) if config["dim"] == saved["model"]["norm"].shape[0])
    write(out, Tokenizer.load(pack / "tokenizer.json"), saved["model"], config, saved["state"], {})
    print(json.dumps(saved["state"]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
