import argparse, math, random, time, cv2, numpy as np, torch, torch.nn.functional as F
from pathlib import Path
import isnet, net as N
STAGES = [f"stage{i}" for i in range(1, 7)] + [f"stage{i}d" for i in range(5, 1, -1)]
GROUPS = [(.3, "davis"), (.3, "wall"), (.3, "video"), (.1, "alpha")]
EIGHT = {p.name for p in Path("../shared/data/davis").iterdir()}
def group(name):
    if name.startswith("wall"): return "wall"
    if name.startswith("comp-"): return "alpha"
    return "davis" if name.rsplit("-", 1)[0] in EIGHT else "video"
POWER = {}
FILES = {}
for p in sorted(Path("pics").iterdir()): FILES.setdefault(group(p.name), []).append(p)
def draw(rng):
    g = rng.choices([g for _, g in GROUPS], [w for w, _ in GROUPS])[0]
    a = cv2.imread(str(rng.choice(FILES[g])))[..., ::-1]
    if rng.random() < .5:
        h, w = a.shape[:2]; ch, cw = int(h * rng.uniform(.4, 1)), int(w * rng.uniform(.4, 1))
        y, x = rng.randint(0, h - ch), rng.randint(0, w - cw); a = a[y:y + ch, x:x + cw]
    kind = rng.random()
    side = 1024 if kind < .72 else 768
    how = cv2.INTER_AREA if side <= min(a.shape[:2]) else cv2.INTER_LINEAR
    a = cv2.resize(np.ascontiguousarray(a), (side, side), interpolation=how)
    if kind < .72:
        y, x = rng.randint(0, 512), rng.randint(0, 512); a = a[y:y + 512, x:x + 512]
    if rng.random() < .5: a = a[:, ::-1]
    a = np.clip(a.astype(np.float32) / 255 * rng.uniform(.75, 1.2), 0, 1) ** rng.uniform(.8, 1.25) - .5
    return torch.from_numpy(np.ascontiguousarray(a.transpose(2, 0, 1)[None]))
def loss_of(student, teacher, image):
    image = image.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        logits, stages = teacher(image, hook=STAGES); logits = logits.float(); truth = torch.sigmoid(logits)
    mine, own = student(image, hook=STAGES)
    parts = [(own[s] - stages[s]).float().square().mean() / max(float(stages[s].float().square().mean()), POWER.get(s, 0.)) for s in STAGES]
    mine = mine.float()
    mask = F.binary_cross_entropy_with_logits(mine, truth) - F.binary_cross_entropy_with_logits(logits, truth)
    return sum(parts) / len(parts), mask, parts
def teacher_():
    t = isnet.original().to(torch.bfloat16).to(memory_format=torch.channels_last)
    for p in t.parameters(): p.requires_grad_(False)
    return t
if __name__ == "__main__":
    q = argparse.ArgumentParser(); q.add_argument("source"); q.add_argument("target"); q.add_argument("--minutes", type=float); q.add_argument("--rate", type=float, default=7e-4); q.add_argument("--threads", type=int, default=2); q.add_argument("--inner"); q.add_argument("--warm", type=int, default=30); q.add_argument("--seed", type=int, default=0)
    args = q.parse_args(); torch.set_num_threads(args.threads); rng = random.Random(args.seed)
    teacher = teacher_(); student = torch.load(f"nets/{args.source}.pt", weights_only=False)
    if args.inner: N.quantize(student, torch.load(args.inner))
    for m in student.layers:
        for n, b in m.named_buffers(): setattr(m, n, b.contiguous())
    groups = [{"params": [p], "lr": 0., "base": args.rate * max(float(p.detach().square().mean().sqrt()), 1e-3)} for p in student.parameters()]
    opt = torch.optim.Adam(groups, betas=(.9, .999))
    with torch.no_grad():
        seen = [teacher(draw(random.Random(300 + i)).to(torch.bfloat16).contiguous(memory_format=torch.channels_last), hook=STAGES)[1] for i in range(16)]
        for s in STAGES: POWER[s] = sum(float(e[s].float().square().mean()) for e in seen) / len(seen)
        del seen
    held = [draw(random.Random(900 + i)) for i in range(10)]
    def held_out():
        with torch.no_grad(): f = [loss_of(student, teacher, x) for x in held]
        print("fixed: feature", *(round(sum(float(k[i]) for k in f) / len(f), 5) for i in (0, 1)), [round(sum(float(k[2][j]) for k in f)/len(f), 4) for j in range(10)], flush=True)
    held_out(); t0 = time.time(); step = 0; run = [0, 0]
    while (share := (time.time() - t0) / 60 / args.minutes) < 1:
        for g in opt.param_groups: g["lr"] = g["base"] * min(1, (step + 1) / args.warm) * .5 * (1 + math.cos(math.pi * min(1, share)))
        f, m, _ = loss_of(student, teacher, draw(rng)); loss = f + 4 * m
        opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(student.parameters(), 1.)
        opt.step(); step += 1; run[0] += float(f); run[1] += float(m)
        if step % 50 == 0: print(step, round(time.time() - t0), "s", round(run[0] / 50, 5), round(run[1] / 50, 5), flush=True); run = [0, 0]
        if step % 200 == 0: held_out(); torch.save(student, f"nets/{args.target}.pt")
    held_out(); torch.save(student, f"nets/{args.target}.pt"); print("steps", step)
