"""inner.py NAME COUNT -> inner-NAME.pt : per channel (absmax, q9999, q999, std) of each reduced layer's inner tensor, over pictures"""
import sys, torch, random, isnet, data, cv2
torch.set_num_threads(int(sys.argv[3]) if len(sys.argv)>3 else 1)
name,count=sys.argv[1],int(sys.argv[2])
net=torch.load(f"nets/{name}.pt",weights_only=False)
pics=[l.strip() for l in open('/tmp/calpics')] if len(open('/tmp/calpics').read().split('\n'))>3 else open('/tmp/calpics').read().split()
pics=[p for p in pics if p][:count]
stat={}
with torch.no_grad():
    for p in pics:
        live={"image":data.tensor(p).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)}
        for i,s in enumerate(net.steps):
            xs=[live[n] for n,_ in s.ins]; L=net.layer(s.layer) if s.op=="conv" else None
            if L is not None and L.mix is not None:
                y=L.inner(xs); f=y.float().abs()[0].flatten(1); k=f[:, ::max(1,f.shape[1]//65536)].sort(1).values; n=k.shape[1]
                row=torch.stack([f.amax(1),k[:,int(n*.9999)],k[:,int(n*.999)],f.square().mean(1).sqrt()])
                stat.setdefault(s.layer,[]).append(row)
                y=torch.nn.functional.conv2d(y,L.mix.to(y.dtype)[:,:,None,None],L.bias.to(y.dtype)); live[s.out]=y.relu() if s.relu else y
            else: live[s.out]=net.apply_step(s,xs)
            for n,_ in s.ins:
                if net.last[n]==i: live.pop(n,None)
out={k:torch.stack(v) for k,v in stat.items()}
torch.save(out,f"inner-{name}.pt")
for k,v in out.items():
    m=v.amax(0); print(k,'absmax/std median',round(float((m[0]/m[3]).median()),1),'max',round(float((m[0]/m[3]).max()),1),'q9999/std',round(float((m[1]/m[3]).median()),1),'channel absmax spread',round(float(m[0].max()/m[0].median()),1))
