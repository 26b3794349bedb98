import av, cv2, numpy as np, sys
from pathlib import Path
out=Path('./pics'); out.mkdir(exist_ok=True)
root=Path('../shared/data')
n=0
for p in sorted([*(root/'media').rglob('*'),*(root/'clips').iterdir()]):
    if not p.is_file() or p.suffix.lower() in {'.md','.jpg','.json','.txt','.py'} : continue
    try:
        with av.open(str(p)) as c:
            if not c.streams.video: continue
            s=c.streams.video[0]; last=None; kept=0
            big = p.parent.name=='clips' or 'intel' in str(p)
            limit=40 if big else 10
            for i,f in enumerate(c.decode(s)):
                if i>1500 or kept>=limit: break
                if i%(24 if big else 15): continue
                a=f.to_ndarray(format='rgb24')
                if a.shape[0]<120: break
                small=cv2.resize(a,(32,18),interpolation=cv2.INTER_AREA).astype(int)
                if last is not None and abs(small-last).mean()<4: continue
                last=small
                k=1280/max(a.shape[:2])
                if k<1: a=cv2.resize(a,None,fx=k,fy=k,interpolation=cv2.INTER_AREA)
                cv2.imwrite(str(out/f'{p.parent.name}-{p.stem}-{i:04d}.jpg'),a[...,::-1],[cv2.IMWRITE_JPEG_QUALITY,93]); kept+=1; n+=1
        if kept: print(p.name,kept)
    except Exception as e: print('x',p.name,repr(e)[:60])
for folder,every in ((root/'davis',5),(root/'alpha',8)):
    for d in sorted(folder.iterdir()):
        for f in sorted((d/'frames').glob('*.jpg'))[::every]:
            (out/f'{d.name}-{f.name}').write_bytes(f.read_bytes()); n+=1
print(n)
