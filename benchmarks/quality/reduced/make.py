import torch, sys, os, isnet, plan, net as N
net = isnet.merged_entry(isnet.original()); stats = torch.load("stats.pt"); os.makedirs("nets", exist_ok=True)
FORCE = {"stage4d.in": True, "stage3d.in": True, "stage2d.in": True, "stage5d.in": True}
real = plan.options
def options(step, own, weight, side=1024):
    found = real(step, own, weight, side)
    plain = plan.true_macs(step, (False, None), weight)
    found = [o for o in found if o[2] == (False, None) or o[2] == (True, None) or plain - plan.true_macs(step, o[2], weight) > .25e9]
    if step.layer in FORCE:
        missed = min(o[1] for o in found if o[2] == (True, None))
        found = [(c, e - missed, f) for c, e, f in found if f[0]]
    return found
plan.options = options
for g in map(float, sys.argv[1:]):
    forms, macs, err = plan.choose(net, stats, g * 1e9)
    s = N.build(net, stats, forms); per = s.macs()
    print(g, "GMAC", sum(per.values())/1e9, "error", err, "table", sum(p.numel() for p in s.parameters()))
    if len(sys.argv) == 2:
        for st in net.steps:
            if st.op == "conv" and forms[st.layer] != (False, None): print(st.layer, tuple(net.layer(st.layer).weight.shape[:2]), forms[st.layer], round(per[st.layer]/1e9,2), "of", round(net.layer(st.layer).macs((1024//st.scale)**2)/1e9,2))
    torch.save(s, f"nets/f{g:g}.pt")
