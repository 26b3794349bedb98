"""nets/NAME.pt (quantised) -> npz for the product and inner ranges: python dump2.py NAME OUT.npz OUT_R.json"""
import sys, json, os, numpy as np, torch
s = torch.load(f"nets/{sys.argv[1]}.pt", weights_only=False)
def onnx_name(layer):
    if layer == "side2": return "/side2/Conv/WithoutBiases"
    stage, part = layer.split("."); return f"/{stage}/rebnconv{part}/conv_s1/Conv/WithoutBiases"
def q(m):
    scale = np.maximum(np.abs(m).max(1, keepdims=True), 1e-12) / 127
    return np.round(m / scale).astype(np.int8), scale.astype(np.float32)
out, R = {}, {}
for step in s.steps:
    if step.op != "conv": continue
    p = s.layer(step.layer); n = onnx_name(step.layer)
    out[f"{n}|bias"] = p.bias.detach().numpy().astype(np.float32)
    if p.swap: out[f"{n}|taps"] = p.turn.detach().numpy().astype(np.float32)
    if p.mix is not None:
        k = p.k.detach(); mats = {"mix": p.mix * k, **({"early": p.bases[0] / k[:, None]} if p.swap else {}), "few": p.bases[-1] / k[:, None]}
        for name, m in mats.items(): out[f"{n}|{name}"], out[f"{n}|{name} scale"] = q(m.detach().float().numpy())
        R[f"{n}/mix:0"] = abs(float(p.range))
np.savez_compressed(sys.argv[2], **out); json.dump(R, open(sys.argv[3], "w"))
print(os.path.getsize(sys.argv[2]))
