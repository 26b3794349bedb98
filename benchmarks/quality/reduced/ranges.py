"""cal.py OUT.json [PICTURES...]: ranges of the reduced network."""
import sys, json, numpy as np, openvino as ov, cv2, time
from pathlib import Path
from foremask.vision.network import graph, reduction
from foremask.weights.catalogue import ISNET
def reduced():
    core=ov.Core()
    net=graph.pruned(core.read_model("~/.cache/foremask/isnet-general-fp16.onnx"), ISNET.spec)
    graph.scale_by_factors(net); reduction.reduce(net); net.validate_nodes_and_infer_types()
    return net
def places(net):
    nodes={n.get_friendly_name():n for n in net.get_ops()}
    old=json.load(open('./src/foremask/vision/network/isnet_int8.json'))
    rows=[]; seen=set()
    for r in old:
        keep=[p for p in r['into'] if p.rpartition(':')[0] in nodes]
        if keep: rows.append(keep); seen|=set(keep)
    by={}
    for n in net.get_ordered_ops():
        if n.get_type_name()=='Convolution' and n.get_friendly_name()+':0' not in seen:
            src=n.input(0).get_source_output()
            by.setdefault((src.get_node().get_friendly_name(),src.get_index()),[]).append(n.get_friendly_name()+':0')
    # join those whose source is that of an old row
    for row in rows:
        name,_,port=row[0].rpartition(':'); src=nodes[name].input(int(port)).get_source_output(); key=(src.get_node().get_friendly_name(),src.get_index())
        if key in by: row+=by.pop(key)
    for key,into in by.items():
        if 'side2' in into[0] or nodes[into[0].rpartition(':')[0]].input(0).get_source_output().get_node().get_type_name()=='Concat': continue
        rows.append(into)
    return rows,nodes
if __name__=='__main__':
    net=reduced(); rows,nodes=places(net)
    net.reshape([1,3,1024,1024])
    outs=[]
    for row in rows:
        name,_,port=row[0].rpartition(':'); outs.append(nodes[name].input(int(port)).get_source_output())
    from openvino import opset13 as op
    stats=[]
    for o in outs:
        f=op.convert(o,'f32'); ax=op.constant(np.array([0,1,2,3],np.int64)); stats+= [op.reduce_min(f,ax).output(0), op.reduce_max(f,ax).output(0)]
    m=ov.Model(stats, net.get_parameters())
    c=ov.Core().compile_model(m,'CPU',{'INFERENCE_PRECISION_HINT':'bf16','INFERENCE_NUM_THREADS':2}); r=c.create_infer_request()
    lo=[];hi=[]
    for p in sys.argv[2:]:
        a=cv2.imread(p)[...,::-1]; a=cv2.resize(a,(1024,1024),interpolation=cv2.INTER_AREA).astype(np.float32)/255-.5
        res=r.infer([a.transpose(2,0,1)[None]]); v=[float(res[i]) for i in range(len(stats))]
        lo.append(v[::2]); hi.append(v[1::2])
    lo=np.array(lo);hi=np.array(hi)
    out=[{"into":row,"low":round(float(lo[:,i].min()),4) if lo[:,i].min()<-1e-3 else 0.0,"high":round(float(hi[:,i].max()),4)} for i,row in enumerate(rows)]
    # stretch: mean of extremes
    for i,o in enumerate(out):
        o["low_mean"]=round(float(lo[:,i].mean()),4); o["high_mean"]=round(float(hi[:,i].mean()),4)
    import os
    R=json.load(open(os.environ['R'])) if 'R' in os.environ else {}
    for o in out:
        for name in o['into']:
            if name in R: o['low']=o['low_mean']=round(-R[name]*128/127,4); o['high']=o['high_mean']=round(R[name],4)
    json.dump(out,open(sys.argv[1],'w'),indent=0)
    for kind in ('mean','mid'):
        alt=[]
        for o in out:
            a=dict(o); 
            a['high']=o['high_mean'] if kind=='mean' else round((o['high']+o['high_mean'])/2,4); a['low']=o['low_mean'] if kind=='mean' else round((o['low']+o['low_mean'])/2,4)
            alt.append(a)
        json.dump(alt,open(sys.argv[1].replace('.json','-'+kind+'.json'),'w'),indent=0); print(len(out), 'rows', len(sys.argv)-2,'pictures')
