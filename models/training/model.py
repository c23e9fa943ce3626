"""The llama architecture in PyTorch: RMSNorm, RoPE, grouped-query attention, SwiGLU, embeddings tied to the output.

RoPE turns the two halves of a head against each other; export.py brings the rows of wq and wk into llama.cpp's order of neighbours.
"""
import torch
import torch.nn.functional as F
from torch import nn

# 46 million parameters: layers 37.7, embeddings 8.4. Rows of 512 and 1536 are multiples of 256, as ggml's K-quants need them.
CONFIG = dict(vocab=16384, dim=512, layers=12, heads=8, kv_heads=4, ffn=1536, context=2048, eps=1e-5, rope_base=10000.0)
TINY = dict(CONFIG, dim=256, layers=2, heads=4, kv_heads=2, ffn=512, context=128)
ADAPTER_ALPHA = 32.0
LINEAR = ("wq", "wk", "wv", "wo", "gate", "up", "down")


def norm(x, weight, eps):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype) * weight.to(x.dtype)


def turned(x, cos, sin):
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


def attention(q, k, v):
    """Causal; [batch, heads, tokens, head size], all with the same number of heads."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    length = q.shape[2]
    scores = q @ k.transpose(-2, -1) * q.shape[3] ** -0.5
    future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(future, float("-inf")).softmax(-1) @ v


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        dim, ffn = config["dim"], config["ffn"]
        self.head = dim // config["heads"]
        kv = config["kv_heads"] * self.head
        shapes = dict(wq=(dim, dim), wk=(kv, dim), wv=(kv, dim), wo=(dim, dim), gate=(ffn, dim), up=(ffn, dim), down=(dim, ffn))
        for name in LINEAR:
            rows, columns = shapes[name]
            layer = nn.Linear(columns, rows, bias=False)
            scale = 1 / (2 * config["layers"]) ** 0.5 if name in ("wo", "down") else 1
            nn.init.normal_(layer.weight, std=scale * 0.7 * columns ** -0.5)
            setattr(self, name, layer)
        self.attn_norm, self.ffn_norm = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.ones(dim))

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        heads = lambda y: y.view(batch, length, -1, self.head).transpose(1, 2)
        h = norm(x, self.attn_norm, self.config["eps"])
        q, k, v = turned(heads(self.wq(h)), cos, sin), turned(heads(self.wk(h)), cos, sin), heads(self.wv(h))
        group = self.config["heads"] // self.config["kv_heads"]
        seen = attention(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1))
        x = x + self.wo(seen.transpose(1, 2).reshape(batch, length, -1))
        h = norm(x, self.ffn_norm, self.config["eps"])
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    """Token numbers [batch, tokens] -> hidden states [batch, tokens, dim]; `logits` makes scores of them."""

    def __init__(self, config=CONFIG):
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.randn(config["vocab"], config["dim"]) * 0.02)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config["layers"]))
        self.norm = nn.Parameter(torch.ones(config["dim"]))
        head = config["dim"] // config["heads"]
        angles = torch.outer(torch.arange(config["context"]).double(), config["rope_base"] ** (-torch.arange(0, head, 2).double() / head))
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, ids):
        length = ids.shape[1]
        x = F.embedding(ids, self.embedding)
        if torch.is_autocast_enabled():
            x = x.bfloat16()
        cos, sin = self.cos[:length], self.sin[:length]
        for block in self.blocks:
            x = block(x, cos, sin)
        return norm(x, self.norm, self.config["eps"])

    def logits(self, hidden):
        return F.linear(hidden, self.embedding.to(hidden.dtype)).float()

    def loss(self, rows, targets=None):
        """Mean cross entropy in nats per token of rows [batch, tokens + 1]; with "none", one for each token."""
        hidden, wanted = self(rows[:, :-1]), rows[:, 1:]
        return F.cross_entropy(self.logits(hidden).flatten(0, 1), wanted.flatten(), reduction=targets or "mean")


class Adapted(nn.Module):
    """A linear layer with a low-rank change beside it: W x + alpha / rank B A x."""

    def __init__(self, layer, rank, alpha):
        super().__init__()
        self.layer, self.scale = layer, alpha / rank
        rows, columns = layer.weight.shape
        self.a = nn.Parameter(torch.randn(rank, columns, device=layer.weight.device) * columns ** -0.5)
        self.b = nn.Parameter(torch.zeros(rows, rank, device=layer.weight.device))

    def forward(self, x):
        return self.layer(x) + self.scale * F.linear(F.linear(x, self.a), self.b)


def adapt(model, rank=16, alpha=ADAPTER_ALPHA):
    """Puts adapters beside all matrices of the blocks; only they learn from now on. Returns their parameters."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for block in model.blocks:
        for name in LINEAR:
            setattr(block, name, Adapted(getattr(block, name), rank, alpha))
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def strip(model):
    """Takes the adapters off: {(block, name): (a, b)}."""
    taken = {}
    for i, block in enumerate(model.blocks):
        for name in LINEAR:
            adapted = getattr(block, name)
            taken[i, name] = adapted.a.detach().float().cpu(), adapted.b.detach().float().cpu()
            setattr(block, name, adapted.layer)
    return taken
