"""Trains the model and two adapters on one GPU within a given time, whatever happens; then writes them as GGUF.

usage: train.py PACK_DIR OUT_DIR --seconds 560 [--adapter-seconds 30] [--tiny]
writes OUT_DIR/log.tsv while it runs, checkpoint.pt each minute (a second call goes on from it), weights.pt, summary.json,
reference.npz (logits to hold other implementations against) and the GGUF files of export.py.

SECONDS are those of the whole program. The rate warms up, stays, and falls to nothing in the last quarter, by the clock and not by steps.
"""
import argparse
import json
import math
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

import export
import rows
from model import ADAPTER_ALPHA, CONFIG, TINY, Model, adapt, strip
from tokenizer import MIDDLE, PREFIX, SUFFIX, Tokenizer

PEAK, WARM, DECAY, DECAY_OF_WEIGHTS, CLIP = 2.5e-3, 0.02, 0.25, 0.1, 1.0
EXPORT_SECONDS = 30             # kept for measuring and writing the files
STYLE = "guava-"                # the library whose style one adapter takes on
CORPUS = {}                     # split -> Corpus, inherited by the processes that make epochs


class Muon(torch.optim.Optimizer):
    """
    Momentum, made orthogonal by five steps of Newton and Schulz (Jordan et al., "Muon", 2024), scaled so that an update is as large as
    one of AdamW's (Liu et al., "Muon is Scalable for LLM Training", 2025), and AdamW's weight decay. For matrices.
    """

    def __init__(self, matrices, lr):
        super().__init__(matrices, dict(lr=lr))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                shapes.setdefault(p.shape, []).append(p)
            for shape, same in shapes.items():
                updates = []
                for p in same:
                    momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    momentum.mul_(0.95).add_(p.grad)
                    updates.append(p.grad + 0.95 * momentum)
                update = orthogonal(torch.stack(updates)) * (0.2 * max(shape) ** 0.5)
                for p, change in zip(same, update):
                    p.mul_(1 - group["lr"] * DECAY_OF_WEIGHTS).add_(change.to(p.dtype), alpha=-group["lr"])


def orthogonal(matrices):
    """[count, rows, columns] -> about the nearest with equal singular values."""
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.transpose(1, 2) if tall else x


def rate(progress):
    """Share of the peak rate at a share of the time."""
    return max(0.0, min(1.0, progress / WARM, (1 - progress) / DECAY))


def load(pack):
    for split in ("train", "heldout"):
        CORPUS[split] = rows.Corpus(pack, split)


def epoch(number, length):
    return rows.epoch(CORPUS["train"], number, length)


class Rows:
    """Batches without end, each epoch made in another process ahead of its time."""

    def __init__(self, pool, length, device, first=0):
        self.pool, self.length, self.device, self.number = pool, length, device, first
        self.coming = [pool.submit(epoch, first + i, length) for i in range(2)]
        self.rows, self.at = None, 0

    def next(self, count):
        if self.rows is None or self.at + count > len(self.rows):
            self.rows, self.at = self.coming.pop(0).result(), 0
            self.coming.append(self.pool.submit(epoch, self.number + 2, self.length))
            self.number += 1
            if len(self.rows) < count:
                raise ValueError(f"an epoch has {len(self.rows)} rows, fewer than a batch of {count}")
        self.at += count
        return on(self.rows[self.at - count:self.at], self.device)


def on(some, device):
    return torch.from_numpy(some.astype(np.int64)).to(device, non_blocking=True)


def precision(device):
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")


def held_rows(corpus, length, most):
    """{kind: rows} to measure on."""
    return dict(plain=rows.epoch(corpus, 0, length, fim=False, chat=False)[:most],
                fim=rows.epoch(corpus, 0, length, chat=False)[:most],
                chat=np.stack(rows.conversations(corpus, rows.Random(1), length)[:most]))


@torch.no_grad()
def measure(model, held, device, batch=8):
    """Nats per token by kind; "middle": what was to be filled in, alone."""
    result, middle = {}, []
    for kind, some in held.items():
        losses = []
        for i in range(0, len(some), batch):
            x = on(some[i:i + batch], device)
            with precision(device):
                loss = model.loss(x, "none").view(len(x), -1)
            losses.append(loss.mean(1))
            if kind == "fim":
                inside = inside_middle(some[i:i + batch])
                middle.append(loss[torch.from_numpy(inside).to(device)])
        result[kind] = torch.cat(losses).mean().item()
    if middle and len(torch.cat(middle)):
        result["middle"] = torch.cat(middle).mean().item()
    return {kind: round(loss, 4) for kind, loss in result.items()}


def inside_middle(some):
    """[rows, tokens]: whether the token to be guessed is in a middle or ends one."""
    inside = np.zeros((len(some), some.shape[1] - 1), bool)
    for r, row in enumerate(some):
        for at in np.flatnonzero(row == MIDDLE):
            ends = np.flatnonzero(row[at:] == 0)
            if len(ends):
                inside[r, at:at + ends[0]] = True
    return inside


class Log:
    def __init__(self, file):
        self.file, self.start = open(file, "a", buffering=1), time.time()

    def __call__(self, **values):
        line = "\t".join(f"{key} {value}" for key, value in values.items())
        print(f"{time.time() - self.start:7.1f} {line}", flush=True)
        print(f"{time.time() - self.start:.1f}\t{line}", file=self.file)


def compiled(function, example, log):
    """The function by torch.compile, or as it is where that fails."""
    if not example.is_cuda or not hasattr(torch, "compile"):
        return function
    try:
        fast = torch.compile(function)
        with precision("cuda"):
            fast(example).backward()
        return fast
    except Exception as problem:        # any: a slower run is better than none
        log(compile=f"failed, going on without: {type(problem).__name__}: {str(problem)[:300]}")
        return function


def train(model, batches, held, end, device, out, log, batch, micro, clock=time.time):
    """Until `clock` says `end`; the first compilation comes before the schedule begins."""
    matrices = [p for block in model.blocks for p in block.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if all(p is not q for q in matrices)]
    optimizers = [Muon(matrices, PEAK), torch.optim.AdamW(others, PEAK, betas=(0.9, 0.95), weight_decay=0.0)]
    state = dict(step=0, tokens=0, elapsed=0.0, skipped=0)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        model.load_state_dict(saved["model"])
        for optimizer, its in zip(optimizers, saved["optimizers"]):
            optimizer.load_state_dict(its)
        state = saved["state"]
        log(resumed=state)

    def save():
        torch.save(dict(model=model.state_dict(), optimizers=[o.state_dict() for o in optimizers], state=state), out / "checkpoint.new")
        (out / "checkpoint.new").replace(checkpoint)

    loss_of = compiled(model.loss, batches.next(micro), log)
    model.zero_grad(set_to_none=True)
    said = saved_at = clock()
    start, seconds, mean = said - state["elapsed"], end - said + state["elapsed"], None
    said_tokens = state["tokens"]
    while (elapsed := clock() - start) < seconds:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = PEAK * rate(elapsed / seconds)
        x, total = batches.next(batch), 0.0
        for part in x.split(micro):
            with precision(device):
                loss = loss_of(part)
            (loss * (len(part) / batch)).backward()
            total += loss.detach() * (len(part) / batch)
        size = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        total = total.item()
        if math.isfinite(total) and math.isfinite(size.item()):
            for optimizer in optimizers:
                optimizer.step()
            mean = total if mean is None else 0.95 * mean + 0.05 * total
        else:
            state["skipped"] += 1
        model.zero_grad(set_to_none=True)
        state["step"] += 1
        state["tokens"] += batch * (x.shape[1] - 1)
        state["elapsed"] = clock() - start
        now = clock()
        if now - said > min(20, seconds / 8):
            log(step=state["step"], tokens=state["tokens"], epoch=batches.number - 1, rate=f"{PEAK * rate(elapsed / seconds):.5f}",
                loss=f"{mean or math.nan:.4f}", grad=f"{size.item():.2f}", per_second=round((state["tokens"] - said_tokens) / (now - said)),
                **measure(model, {kind: some[:16] for kind, some in held.items()}, device))
            said, said_tokens = clock(), state["tokens"]
        if now - saved_at > 60:
            save()
            saved_at = clock()
    save()
    state["epochs"] = batches.number - 1 + round(batches.at / len(batches.rows), 2)
    return state


def train_adapter(model, some, held, seconds, device, log, batch, epochs=3, peak=5e-4):
    """A low-rank change that suits these rows better: (weights, held-out loss before, after, tokens)."""
    before = measure(model, held, device)
    parameters = adapt(model)
    optimizer = torch.optim.AdamW(parameters, peak, betas=(0.9, 0.95), weight_decay=0.0)
    generator, start, tokens = np.random.default_rng(1), time.time(), 0
    steps = max(1, epochs * len(some) // batch)
    order = np.concatenate([generator.permutation(len(some)) for _ in range(epochs + 1)])
    for step in range(steps):
        progress = max((time.time() - start) / seconds, step / steps)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = peak * max(0.0, min(1.0, (step + 1) / 10, 1 - progress))
        x = on(some[order[step * batch:(step + 1) * batch]], device)
        with precision(device):
            loss = model.loss(x)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += len(x) * (x.shape[1] - 1)
    after = measure(model, held, device)
    log(adapter=f"{tokens} tokens", before=before, after=after)
    return strip(model), before, after, tokens


@torch.no_grad()
def reference(model, adapters, tokenizer, held, out):
    """Logits of the last 8 positions of some prompts, without and with each adapter, in fp32 on matrices rounded to f16."""
    half = lambda x: x.half().float() if x.dim() > 1 else x
    weights = {key: half(value) for key, value in model.cpu().state_dict().items()}
    prompts = [tokenizer.encode("package org.example;\n\nimport java.util.List;\n\npublic final class "),
               [PREFIX, *tokenizer.encode("    public int size() {\n        return "), SUFFIX, *tokenizer.encode(";\n    }\n"), MIDDLE],
               held["plain"][0][:min(700, model.config["context"])].tolist(), held["chat"][0][:100].tolist()]
    arrays = {f"prompt {i}": np.array(prompt) for i, prompt in enumerate(prompts)}
    for name, adapter in dict(base={}, **adapters).items():
        changed = {f"blocks.{i}.{layer}.weight": weights[f"blocks.{i}.{layer}.weight"] + ADAPTER_ALPHA / len(a) * half(b) @ half(a)
                   for (i, layer), (a, b) in adapter.items()}
        rounded = Model(model.config)
        rounded.load_state_dict(weights | changed)
        for i, prompt in enumerate(prompts):
            arrays[f"{name} {i}"] = rounded.logits(rounded(torch.tensor([prompt])))[0, -8:].numpy()
    np.savez(out / "reference.npz", **arrays)


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("pack", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--seconds", type=float, required=True, help="from the start of this program to its end")
    options.add_argument("--adapter-seconds", type=float, default=30)
    options.add_argument("--tiny", action="store_true", help="a very small model, to try everything without a GPU")
    options = options.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    log = Log(options.out / "log.tsv")
    config = TINY if options.tiny else CONFIG
    load(options.pack)
    length = config["context"]
    pool = ProcessPoolExecutor(3, multiprocessing.get_context("fork"))
    pool.submit(int).result()       # makes the processes now, before CUDA begins, which does not survive a fork
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch, micro, most = (64, 32, 64) if device == "cuda" else (4, 4, 8)
    batches = Rows(pool, length, device)
    held = held_rows(CORPUS["heldout"], length, most)
    log(files=len(CORPUS["train"].files), conversations=len(CORPUS["train"].chats), device=device, torch=torch.__version__)
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = True
    model = Model(config).to(device)
    end = log.start + max(5, options.seconds - 2 * options.adapter_seconds - EXPORT_SECONDS)
    state = train(model, batches, held, end, device, options.out, log, batch, micro)
    state |= dict(parameters=sum(p.numel() for p in model.parameters()), heldout=measure(model, held, device))
    log(**state)
    torch.save(dict(model=model.state_dict(), config=config, state=state), options.out / "weights.pt")

    adapters = {}
    library = CORPUS["train"].of(STYLE)
    style = rows.epoch(library, 0, length, chat=False), dict(plain=held_rows(CORPUS["heldout"].of(STYLE), length, most)["plain"])
    chat = np.stack(rows.conversations(CORPUS["train"], rows.Random(2), length)[:4000]), dict(chat=held["chat"])
    for name, (some, own) in (("guava", style), ("chat", chat)):
        weights, before, after, tokens = train_adapter(model, some, own, options.adapter_seconds, device, log, min(batch, 16))
        adapters[name] = weights
        state[name] = dict(tokens=tokens, before=before, after=after)
    (options.out / "summary.json").write_text(json.dumps(state, indent=1))
    pool.shutdown(wait=False, cancel_futures=True)
    tokenizer = Tokenizer.load(options.pack / "tokenizer.json")
    export.write(options.out, tokenizer, model.cpu().state_dict(), config, state, adapters)
    reference(model, adapters, tokenizer, held, options.out)
    log(done=True)


if __name__ == "__main__":
    main()
