"""The reduced network, whose weights are products of trained bases and IS-Net's own."""
import torch, torch.nn.functional as F
from torch import nn
import isnet
from collect import swapped_prior

_T = torch.tensor([[0.5, 0.0, 0.0], [0.5, 1.0, 0.5], [0.0, 0.0, 0.5]])
TURN = torch.kron(_T, _T)  # (9, 9): taps of the kernel before the enlargement from those after it
assert torch.allclose(TURN @ torch.arange(9.), swapped_prior(torch.arange(9.).view(1, 1, 3, 3)).flatten())

def step_through(x, to):
    return x + (to - x).detach()

def rows8(w):
    """Symmetric 8 bits, one scale a row."""
    with torch.no_grad():
        f = w.flatten(1).float(); s = f.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
        q = ((f / s).round() * s).view(w.shape).to(w.dtype)
    return step_through(w, q)

class Part(nn.Module):
    quantized = False
    """One convolution: fixed weights of IS-Net, trained bases (or none), bias."""
    def __init__(self, fixed, bias, step, swap, bases=None, mix=None):
        super().__init__()
        for i, w in enumerate(fixed): self.register_buffer(f"w{i}", w.detach().clone())
        self.count = len(fixed)
        self.bases = nn.ParameterList([nn.Parameter(b.clone()) for b in bases]) if bases is not None else None
        self.mix = nn.Parameter(mix.clone()) if mix is not None else None
        self.turn = nn.Parameter(TURN.clone()) if swap else None
        self.bias = nn.Parameter(bias.detach().clone())
        self.flags = [f for _, f in step.ins]; self.swap = swap
        self.dilation, self.stride = step.dilation, step.stride
    def weight(self, i):
        w = getattr(self, f"w{i}")
        if self.swap and i == 0: w = (w.flatten(2) @ self.turn.T).view(w.shape)
        if self.bases is None: return w
        d = torch.bfloat16
        made = (self.bases[i].to(d) @ w.flatten(1).to(d)).view(-1, *w.shape[1:])
        return rows8(made) if self.quantized else made
    def inner(self, xs):
        dt = xs[0].dtype
        b = self.bias.to(dt) if self.mix is None else None
        if self.swap:
            low = F.conv2d(xs[0], self.weight(0).to(dt), None, 1, 1)
            y = F.conv2d(xs[1], self.weight(1).to(dt), b, 1, self.dilation, self.dilation)
            return y + isnet.enlarged(low)
        x = [isnet.enlarged(x) if f else x for x, f in zip(xs, self.flags)]
        x = torch.cat(x, 1) if len(x) > 1 else x[0]
        w = self.weight(0)
        return F.conv2d(x, w.to(dt), b, self.stride, self.dilation * (w.shape[-1] // 2), self.dilation)
    def forward(self, xs):
        y = self.inner(xs)
        if self.mix is not None and self.quantized:
            k = self.k.to(y.dtype).view(1, -1, 1, 1); step = (self.range / 127).to(y.dtype)
            v = (y / (k * step)).clamp(-127, 127)
            y = step_through(v, v.detach().round()) * step  # equalised
            y = y.contiguous(memory_format=torch.channels_last)
            mix = rows8(self.mix * self.k)
            return F.conv2d(y, mix.to(y.dtype)[:, :, None, None], self.bias.to(y.dtype))
        if self.mix is not None:
            y = F.conv2d(y, self.mix.to(y.dtype)[:, :, None, None], self.bias.to(y.dtype))
        return y
    def macs(self, positions):
        total = 0
        for i in range(self.count):
            w = getattr(self, f"w{i}")
            r = w.shape[0] if self.bases is None else self.bases[i].shape[0]
            total += r * w[0].numel() * positions // (4 if self.swap and i == 0 else 1)
        return total + (self.mix.numel() * positions if self.mix is not None else 0)
    def table(self):
        return sum(p.numel() for p in self.parameters())

def build(net, stats, forms):
    from fit import split
    out = {}
    for step in net.steps:
        if step.op != "conv": continue
        layer = net.layer(step.layer); w, bias = layer.weight.detach(), layer.bias.detach()
        swap, rank = forms[step.layer]
        own = stats.get(step.layer)
        fixed = [w]
        if swap:
            c = w.shape[1] // 2
            fixed = [w[:, :c], w[:, c:]]
            bias = own["swap_bias"]
        bases = mix = None
        if rank:
            a, b = split(own["swap_cov" if swap else "cov"], own["metric"], rank)
            n = a.norm(dim=0); m = b.norm(dim=1); k = (n / m).sqrt()  # rows of b and columns of a alike
            a, b = a / k, b * k[:, None]
            mean = own["mean"]
            bias = mean + a @ (b @ (bias - mean))
            bases, mix = [b] * len(fixed), a
        out[step.layer] = Part(fixed, bias, step, swap, bases, mix)
    return isnet.Net(net.steps, out)


def quantize(net, inner, alpha=0.7):
    for step in net.steps:
        if step.op != "conv": continue
        p = net.layer(step.layer)
        if p.mix is None: continue
        v = inner[step.layer].amax(0); k = v[0].clamp_min(1e-4) ** alpha
        p.register_buffer("k", k.clone()); p.range = nn.Parameter((torch.minimum(v[1] * 1.2, v[0]) / k).max())
        p.quantized = True
